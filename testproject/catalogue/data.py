"""The catalogue: read once from ``content/``, never changed, the same in every process."""

from __future__ import annotations

import asyncio
import datetime
import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

CONTENT = Path(__file__).resolve().parent / "content"

SHOP_NAME = "Fernway Plants"
SHOP_URL = "https://fernway.example"
SHOP_EMAIL = "hello@fernway.example"
COPYRIGHT_YEAR = 2025
SEASON = "autumn"
SEASON_MONTH = 10
FREE_DELIVERY_FROM = Decimal("60.00")
HOURS_TO_CUT_OFF = 3
PER_PAGE = 8


@dataclass(frozen=True)
class Category:
    slug: str
    name: str
    summary: str
    department: str

    @property
    def products(self) -> list[Product]:
        return [product for product in PRODUCTS if product.category is self]


@dataclass(frozen=True)
class Department:
    slug: str
    name: str
    categories: tuple[Category, ...]


@dataclass(frozen=True)
class Grower:
    slug: str
    name: str
    region: str
    founded: int
    about: str

    @property
    def products(self) -> list[Product]:
        return [product for product in PRODUCTS if product.grower is self]


@dataclass(frozen=True)
class Pot:
    size: str
    extra: Decimal


@dataclass(frozen=True)
class Review:
    rating: int
    title: str
    text: str
    written: datetime.date


@dataclass(frozen=True)
class Product:
    slug: str
    name: str
    botanical: str
    category: Category
    grower: Grower
    price: Decimal
    old_price: Decimal | None
    stock: int
    light: str
    water: str
    height: int
    spread: int
    hardy: bool
    pet_safe: bool
    months: tuple[int, ...]
    added: datetime.date
    tags: tuple[str, ...]
    summary: str
    description: str
    pots: tuple[Pot, ...]
    reviews: tuple[Review, ...]

    @property
    def rating(self) -> int:
        return round(sum(review.rating for review in self.reviews) / len(self.reviews))

    @property
    def related(self) -> list[Product]:
        return [other for other in self.category.products if other is not self][:3]

    def matches(self, term: str) -> bool:
        text = " ".join([self.name, self.botanical, self.summary, *self.tags])
        return term.lower() in text.lower()


@dataclass(frozen=True)
class Article:
    slug: str
    title: str
    published: datetime.date
    topic: str
    products: tuple[Product, ...]
    summary: str
    text: str


@dataclass(frozen=True)
class Delivery:
    slug: str
    name: str
    days: int
    price: Decimal


@dataclass(frozen=True)
class Line:
    product: Product
    quantity: int

    @property
    def total(self) -> Decimal:
        return self.product.price * self.quantity


@dataclass(frozen=True)
class Order:
    number: str
    placed: datetime.date
    status: str
    delivery: Delivery
    lines: tuple[Line, ...]
    note: str

    @property
    def subtotal(self) -> Decimal:
        return sum((line.total for line in self.lines), Decimal())

    @property
    def delivery_price(self) -> Decimal:
        return Decimal() if self.subtotal >= FREE_DELIVERY_FROM else self.delivery.price

    @property
    def total(self) -> Decimal:
        return self.subtotal + self.delivery_price


@dataclass(frozen=True)
class Address:
    label: str
    recipient: str
    lines: tuple[str, ...]
    default: bool


@dataclass(frozen=True)
class OpeningHours:
    weekday: int
    opens: datetime.time | None
    closes: datetime.time | None


def read(name: str) -> list[dict[str, Any]]:
    return json.loads((CONTENT / name).read_text(encoding="utf-8"))


def department_from(row: dict[str, Any]) -> Department:
    categories = tuple(Category(**each, department=row["slug"]) for each in row["categories"])
    return Department(row["slug"], row["name"], categories)


def product_from(row: dict[str, Any]) -> Product:
    return Product(
        **row
        | {
            "category": CATEGORY_BY_SLUG[row["category"]],
            "grower": GROWER_BY_SLUG[row["grower"]],
            "price": Decimal(row["price"]),
            "old_price": Decimal(row["old_price"]) if row["old_price"] else None,
            "months": tuple(row["months"]),
            "added": datetime.date.fromisoformat(row["added"]),
            "tags": tuple(row["tags"]),
            "pots": tuple(Pot(each["size"], Decimal(each["extra"])) for each in row["pots"]),
            "reviews": tuple(review_from(each) for each in row["reviews"]),
        }
    )


def review_from(row: dict[str, Any]) -> Review:
    return Review(**row | {"written": datetime.date.fromisoformat(row["written"])})


def article_from(row: dict[str, Any]) -> Article:
    return Article(
        **row
        | {
            "published": datetime.date.fromisoformat(row["published"]),
            "products": tuple(PRODUCT_BY_SLUG[slug] for slug in row["products"]),
        }
    )


def order_from(row: dict[str, Any]) -> Order:
    return Order(
        **row
        | {
            "placed": datetime.date.fromisoformat(row["placed"]),
            "delivery": DELIVERY_BY_SLUG[row["delivery"]],
            "lines": tuple(Line(PRODUCT_BY_SLUG[slug], count) for slug, count in row["lines"]),
        }
    )


DEPARTMENTS = tuple(department_from(row) for row in read("categories.json"))
CATEGORIES = tuple(each for department in DEPARTMENTS for each in department.categories)
CATEGORY_BY_SLUG = {category.slug: category for category in CATEGORIES}

GROWERS = tuple(Grower(**row) for row in read("growers.json"))
GROWER_BY_SLUG = {grower.slug: grower for grower in GROWERS}

PRODUCTS = tuple(product_from(row) for row in read("products.json"))
PRODUCT_BY_SLUG = {product.slug: product for product in PRODUCTS}
OFFERS = [product for product in PRODUCTS if product.old_price]
NEWEST = sorted(PRODUCTS, key=lambda product: product.added, reverse=True)[:6]

ARTICLES = sorted(
    (article_from(row) for row in read("journal.json")),
    key=lambda article: article.published,
    reverse=True,
)
ARTICLE_BY_SLUG = {article.slug: article for article in ARTICLES}

DELIVERIES = (
    Delivery("parcel", "Parcel", 3, Decimal("5.90")),
    Delivery("van", "Our own van", 7, Decimal("12.00")),
    Delivery("collect", "Collect from the nursery", 1, Decimal("0.00")),
)
DELIVERY_BY_SLUG = {delivery.slug: delivery for delivery in DELIVERIES}

CUSTOMER = "Riverside Allotment Society"
CUSTOMER_NUMBER = 1042
CUSTOMER_EMAIL = "committee@riverside-allotments.example"
ADDRESSES = (
    Address("Tool shed", CUSTOMER, ("Plot 1, Towpath", "12345 Riverside"), default=True),
    Address("Office", CUSTOMER, ("Community House", "12345 Riverside"), default=False),
)
ORDERS = tuple(order_from(row) for row in read("orders.json"))
ORDER_BY_NUMBER = {order.number: order for order in ORDERS}
WISHLIST = tuple(PRODUCT_BY_SLUG[slug] for slug in ("quince", "royal-fern", "alpine-squill"))

# Every visitor has this one basket: without sessions, each page is the same in every run.
BASKET = Order(
    number="basket",
    placed=datetime.date(2025, 11, 3),
    status="open",
    delivery=DELIVERY_BY_SLUG["parcel"],
    lines=(
        Line(PRODUCT_BY_SLUG["thyme"], 3),
        Line(PRODUCT_BY_SLUG["autumn-windflower"], 2),
        Line(PRODUCT_BY_SLUG["cast-iron-plant"], 1),
    ),
    note="",
)

OPENING_HOURS = (
    OpeningHours(0, None, None),
    *(OpeningHours(day, datetime.time(9), datetime.time(17, 30)) for day in range(1, 5)),
    OpeningHours(5, datetime.time(9), datetime.time(16)),
    OpeningHours(6, datetime.time(10), datetime.time(12)),
)

HELP_PAGES = {
    "delivery": "Delivery",
    "returns": "Returns and our promise",
    "care": "Plant care",
    "pot-sizes": "Pot sizes",
    "questions": "Frequent questions",
    "glossary": "Glossary",
}
COMPANY_PAGES = {
    "about": "About us",
    "opening-hours": "Opening hours",
    "peat-free": "Peat-free growing",
    "accessibility": "Accessibility",
    "privacy": "Privacy",
    "terms": "Terms of sale",
    "imprint": "Imprint",
}


def search(term: str) -> list[Product]:
    return [product for product in PRODUCTS if product.matches(term)]


async def stock_in(place: str, product: Product) -> tuple[str, int]:
    # A warehouse would be asked over the network here, so others get their turn.
    await asyncio.sleep(0)
    share = product.stock // 4
    return place, {"Nursery": product.stock - 2 * share}.get(place, share)
