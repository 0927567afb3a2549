from django import forms

from testproject.catalogue import data

TOPICS = [
    ("order", "An order"),
    ("plant", "Advice about a plant"),
    ("school", "A visit with a school"),
    ("other", "Something else"),
]
REASONS = [
    ("damaged", "It arrived damaged"),
    ("wrong", "It is not what I ordered"),
    ("died", "It died within the first year"),
]
LIGHT = [("", "Any light"), ("sun", "Sun"), ("shade", "Shade"), ("bright", "Bright window")]
SORTS = [("name", "Name"), ("price", "Price"), ("height", "Height")]


class ContactForm(forms.Form):
    topic = forms.ChoiceField(choices=TOPICS)
    reply_to = forms.EmailField(label="Your e-mail address")
    message = forms.CharField(
        max_length=2000,
        min_length=10,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="For advice about a plant, tell us about its window and its pot.",
    )
    consent = forms.BooleanField(label="You may keep this message until it is answered.")


class FilterForm(forms.Form):
    light = forms.ChoiceField(choices=LIGHT, required=False)
    pet_safe = forms.BooleanField(label="Safe for pets", required=False)
    hardy = forms.BooleanField(label="Hardy", required=False)
    sort = forms.ChoiceField(choices=SORTS, required=False)


class AddressForm(forms.Form):
    label = forms.CharField(max_length=40, help_text="Such as “At work”.")
    recipient = forms.CharField(max_length=80)
    street = forms.CharField(label="Street and number", max_length=120)
    postcode = forms.RegexField(r"^\d{5}$", help_text="Five digits.")
    town = forms.CharField(max_length=80)
    default = forms.BooleanField(label="Use it unless I choose another", required=False)


class DeliveryForm(forms.Form):
    method = forms.ChoiceField(
        choices=[(delivery.slug, delivery.name) for delivery in data.DELIVERIES],
        widget=forms.RadioSelect,
        initial="parcel",
    )
    recipient = forms.CharField(max_length=80)
    street = forms.CharField(label="Street and number", max_length=120)
    postcode = forms.RegexField(r"^\d{5}$", help_text="Five digits.")
    town = forms.CharField(max_length=80)
    note = forms.CharField(label="Note for the driver", max_length=200, required=False)


class PaymentForm(forms.Form):
    method = forms.ChoiceField(
        choices=[("invoice", "Invoice"), ("transfer", "Bank transfer"), ("gift", "Gift voucher")],
        widget=forms.RadioSelect,
        initial="invoice",
    )
    voucher = forms.CharField(max_length=12, required=False)
    terms = forms.BooleanField(label="I have read the terms of sale.")


class ReturnForm(forms.Form):
    order = forms.ChoiceField(choices=[(number, number) for number in data.ORDER_BY_NUMBER])
    reason = forms.ChoiceField(choices=REASONS, widget=forms.RadioSelect)
    details = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 4}))


class PreferencesForm(forms.Form):
    newsletter = forms.BooleanField(label="Monthly letter", required=False)
    reminders = forms.BooleanField(label="Reminders to water and prune", required=False)
    departments = forms.MultipleChoiceField(
        choices=[(department.slug, department.name) for department in data.DEPARTMENTS],
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )
