"""The basket, the checkout and the customer's own pages.

There is one customer and one basket, and nothing is kept: a form that is filled in correctly
leads to the next page.
"""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from testproject.catalogue import data, mail
from testproject.catalogue.forms import (
    AddressForm,
    DeliveryForm,
    PaymentForm,
    PreferencesForm,
    ReturnForm,
)
from testproject.catalogue.views import find


def step(
    request: HttpRequest,
    template: str,
    form_class: type[forms.Form],
    next_page: str,
    **context: Any,
) -> HttpResponse:
    form = form_class(request.POST if request.method == "POST" else None)
    if form.is_valid():
        return redirect(next_page)
    return render(request, template, {"form": form, **context})


def basket(request: HttpRequest) -> HttpResponse:
    return render(request, "checkout/basket.html")


def basket_count(request: HttpRequest) -> HttpResponse:
    return render(request, "fragments/basket_count.html")


def delivery(request: HttpRequest) -> HttpResponse:
    context = {"deliveries": data.DELIVERIES}
    return step(request, "checkout/delivery.html", DeliveryForm, "payment", **context)


def payment(request: HttpRequest) -> HttpResponse:
    return step(request, "checkout/payment.html", PaymentForm, "review")


def review(request: HttpRequest) -> HttpResponse:
    return render(request, "checkout/review.html", {"address": data.ADDRESSES[0]})


def confirmation(request: HttpRequest) -> HttpResponse:
    return render(request, "checkout/confirmation.html", {"order": data.ORDERS[0]})


def account(request: HttpRequest) -> HttpResponse:
    context = {
        "customer": data.CUSTOMER,
        "customer_number": data.CUSTOMER_NUMBER,
        "orders": data.ORDERS,
        "wishlist": data.WISHLIST,
    }
    return render(request, "account/overview.html", context)


def orders(request: HttpRequest) -> HttpResponse:
    return render(request, "account/orders.html", {"orders": data.ORDERS})


def order(request: HttpRequest, number: str) -> HttpResponse:
    order = find(data.ORDER_BY_NUMBER, number)
    return render(request, "account/order.html", {"order": order, "address": data.ADDRESSES[0]})


@require_POST
def resend_confirmation(request: HttpRequest, number: str) -> HttpResponse:
    mail.send_order_confirmation(find(data.ORDER_BY_NUMBER, number))
    return redirect("order", number)


def addresses(request: HttpRequest) -> HttpResponse:
    context = {"addresses": data.ADDRESSES}
    return step(request, "account/addresses.html", AddressForm, "addresses", **context)


def wishlist(request: HttpRequest) -> HttpResponse:
    return render(request, "account/wishlist.html", {"products": data.WISHLIST})


def return_request(request: HttpRequest) -> HttpResponse:
    return step(request, "account/return.html", ReturnForm, "orders")


def preferences(request: HttpRequest) -> HttpResponse:
    return step(request, "account/preferences.html", PreferencesForm, "account")
