"""The pages of the shop; those of the customer's own are in ``account_views``."""

import asyncio
from collections.abc import Iterable
from typing import Any

from asgiref.sync import sync_to_async
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from testproject.catalogue import data
from testproject.catalogue.data import Category, Product
from testproject.catalogue.forms import ContactForm, FilterForm

WAREHOUSES = ("Nursery", "Coast depot", "Hill depot")


def find(things: dict[str, Any], key: str) -> Any:
    try:
        return things[key]
    except KeyError:
        raise Http404(key) from None


def filtered(products: Iterable[Product], form: FilterForm) -> list[Product]:
    if not form.is_valid():
        return list(products)
    wanted = form.cleaned_data
    return sorted(
        (
            product
            for product in products
            if wanted["light"] in product.light
            and product.pet_safe >= wanted["pet_safe"]
            and product.hardy >= wanted["hardy"]
        ),
        key=lambda product: getattr(product, wanted["sort"] or "name"),
    )


def home(request: HttpRequest) -> HttpResponse:
    in_season = [each for each in data.PRODUCTS if data.SEASON_MONTH in each.months]
    context = {"newest": data.NEWEST, "offers": data.OFFERS, "in_season": in_season[:4]}
    return render(request, "home.html", context | {"articles": data.ARTICLES[:3]})


def category_index(request: HttpRequest) -> HttpResponse:
    return render(request, "shop/category_index.html")


def category(request: HttpRequest, slug: str) -> HttpResponse:
    category: Category = find(data.CATEGORY_BY_SLUG, slug)
    form = FilterForm(request.GET)
    products = filtered(category.products, form)
    context = {"category": category, "form": form, "products": products}
    return render(request, "shop/category.html", context)


def all_products(request: HttpRequest) -> HttpResponse:
    form = FilterForm(request.GET)
    products = Paginator(filtered(data.PRODUCTS, form), data.PER_PAGE)
    context = {"form": form, "page": products.get_page(request.GET.get("page"))}
    return render(request, "shop/all_products.html", context)


def product(request: HttpRequest, slug: str) -> HttpResponse:
    product: Product = find(data.PRODUCT_BY_SLUG, slug)
    bulb = product.category.slug == "bulbs"
    template = "shop/product_bulb.html" if bulb else "shop/product.html"
    return render(request, template, {"product": product, "category": product.category})


async def availability(request: HttpRequest, slug: str) -> HttpResponse:
    product: Product = find(data.PRODUCT_BY_SLUG, slug)
    stock = await asyncio.gather(*(data.stock_in(each, product) for each in WAREHOUSES))
    context = {"product": product, "category": product.category, "stock": dict(stock)}
    return render(request, "shop/availability.html", context)


async def suggestions(request: HttpRequest) -> HttpResponse:
    term = request.GET.get("q", "")
    context = {"term": term, "products": data.search(term)[:5] if term else []}
    return await sync_to_async(render)(request, "fragments/suggestions.html", context)


def label(request: HttpRequest, slug: str) -> HttpResponse:
    product: Product = find(data.PRODUCT_BY_SLUG, slug)
    return render(request, "catalogue/label.html", {"product": product}, using="django")


def search(request: HttpRequest) -> HttpResponse:
    term = request.GET.get("q", "").strip()
    context = {
        "term": term,
        "products": data.search(term) if term else [],
        "is_fragment": request.GET.get("fragment") == "1",
    }
    return render(request, "shop/search.html", context)


def compare(request: HttpRequest) -> HttpResponse:
    slugs = request.GET.getlist("plant") or ["boston-fern", "royal-fern", "hart-s-tongue"]
    products = [data.PRODUCT_BY_SLUG[slug] for slug in slugs if slug in data.PRODUCT_BY_SLUG]
    return render(request, "shop/compare.html", {"products": products})


def offers(request: HttpRequest) -> HttpResponse:
    return render(request, "shop/offers.html", {"products": data.OFFERS})


def newest(request: HttpRequest) -> HttpResponse:
    return render(request, "shop/newest.html", {"products": data.NEWEST})


def calendar(request: HttpRequest) -> HttpResponse:
    products = [product for product in data.PRODUCTS if product.months]
    return render(request, "shop/calendar.html", {"products": products})


def grower_index(request: HttpRequest) -> HttpResponse:
    return render(request, "shop/grower_index.html", {"growers": data.GROWERS})


def grower(request: HttpRequest, slug: str) -> HttpResponse:
    grower = find(data.GROWER_BY_SLUG, slug)
    return render(request, "shop/grower.html", {"grower": grower})


def journal(request: HttpRequest) -> HttpResponse:
    return render(request, "journal/index.html", {"articles": data.ARTICLES})


def article(request: HttpRequest, slug: str) -> HttpResponse:
    article = find(data.ARTICLE_BY_SLUG, slug)
    others = [other for other in data.ARTICLES if other is not article]
    return render(request, "journal/article.html", {"article": article, "others": others})


def help_index(request: HttpRequest) -> HttpResponse:
    return render(request, "help/index.html")


def help_page(request: HttpRequest, slug: str) -> HttpResponse:
    title = find(data.HELP_PAGES, slug)
    context = {"title": title, "deliveries": data.DELIVERIES, "categories": data.CATEGORIES}
    return render(request, f"help/{slug.replace('-', '_')}.html", context)


def company_page(request: HttpRequest, slug: str) -> HttpResponse:
    title = find(data.COMPANY_PAGES, slug)
    context = {"title": title, "opening_hours": data.OPENING_HOURS, "growers": data.GROWERS}
    return render(request, f"company/{slug.replace('-', '_')}.html", context)


def contact(request: HttpRequest) -> HttpResponse:
    form = ContactForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        return redirect("contact_sent")
    return render(request, "help/contact.html", {"form": form, "title": "Contact"})


def contact_sent(request: HttpRequest) -> HttpResponse:
    return render(request, "help/contact_sent.html", {"title": "Thank you"})


def feed(request: HttpRequest) -> HttpResponse:
    context = {"articles": data.ARTICLES}
    return render(request, "feeds/journal.xml", context, content_type="application/atom+xml")


def sitemap(request: HttpRequest) -> HttpResponse:
    context = {
        "names": ["home", "category_index", "all_products", "journal", "help_index"],
        "products": data.PRODUCTS,
        "categories": data.CATEGORIES,
        "articles": data.ARTICLES,
    }
    return render(request, "feeds/sitemap.xml", context, content_type="application/xml")


def opensearch(request: HttpRequest) -> HttpResponse:
    content_type = "application/opensearchdescription+xml"
    return render(request, "feeds/opensearch.xml", content_type=content_type)


def robots(request: HttpRequest) -> HttpResponse:
    hidden = [reverse(name) for name in ("basket", "account", "search")]
    return render(request, "feeds/robots.txt", {"hidden": hidden}, content_type="text/plain")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "errors/404.html", {"articles": data.ARTICLES[:2]}, status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    return render(request, "errors/500.html", status=500)


def maintenance(request: HttpRequest) -> HttpResponse:
    return render(request, "errors/503.html", status=503)
