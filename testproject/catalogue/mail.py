from typing import Any

from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from testproject.catalogue import data


def compose(template: str, to: str, **context: Any) -> EmailMessage:
    """Return the mail that ``template`` renders; its first line is the subject."""
    text = render_to_string(
        template,
        {"shop_name": data.SHOP_NAME, "shop_url": data.SHOP_URL, **context},
    )
    subject, _, body = text.partition("\n")
    return EmailMessage(subject.strip(), body.lstrip("\n"), data.SHOP_EMAIL, [to])


def order_confirmation(order: data.Order) -> EmailMessage:
    return compose(
        "mail/order_confirmation.txt", data.CUSTOMER_EMAIL, order=order, customer=data.CUSTOMER
    )


def back_in_stock(product: data.Product) -> EmailMessage:
    return compose(
        "mail/back_in_stock.txt", data.CUSTOMER_EMAIL, product=product, customer=data.CUSTOMER
    )


def send_order_confirmation(order: data.Order) -> int:
    return order_confirmation(order).send()
