from typing import Any

from django.http import HttpRequest

from testproject.catalogue import data


def shop(request: HttpRequest) -> dict[str, Any]:
    return {
        "shop_name": data.SHOP_NAME,
        "shop_url": data.SHOP_URL,
        "shop_email": data.SHOP_EMAIL,
        "copyright_year": data.COPYRIGHT_YEAR,
        "season": data.SEASON,
        "season_month": data.SEASON_MONTH,
        "free_delivery_from": data.FREE_DELIVERY_FROM,
        "hours_to_cut_off": data.HOURS_TO_CUT_OFF,
        "basket": data.BASKET,
    }


def navigation(request: HttpRequest) -> dict[str, Any]:
    return {
        "departments": data.DEPARTMENTS,
        "help_pages": data.HELP_PAGES,
        "company_pages": data.COMPANY_PAGES,
    }
