"""The steps of the demo's shop day: each acts on the running system, shows what happened and says what it expected.

`console.demo` runs `STEPS` in order on one `Day`, then `Day.closing`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any

import httpx
import trio
from rich.console import Console
from rich.markup import escape

from console.database_roles import AUDITOR
from console.demo_view import exchange, journal, json_call
from console.journal_view import Entry, entries_since, last_intent
from console.ledger_commands import print_trial_balance, trial_balance_of
from console.ledger_verification import verification_of, verification_text
from console.postgresql import resolve_dsn
from console.prove_command import books_directory, print_proof, proof_of
from console.send import party_key
from console.supervisor import System
from console.up import StopFlag
from console.webhook_sink import WebhookSink
from messages.address import address_of
from messages.message import Message
from messages.mti import response_mti
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.acquirer.book import Request
from simulators.acquirer.client import open_acquirer
from simulators.book import write_book
from simulators.control import ask

# Public test numbers of card processors; 4242… goes to issuer alpha, 5555… to issuer beta, which uses packed BCD.
VISA = Card("4242424242424242", pin="1234")
MASTERCARD = Card("5555555555554444", pin="1234")
SHOWN = ("id", "object", "status", "amount", "amount_received", "amount_capturable", "currency", "type", "reason")
PATIENCE_S = 15.0


class Day:
    """The common objects of the steps: the till's acquirer, the merchant's HTTP client, the auditor's view, the
    failures.

    Args:
        key: the merchant's secret API key.
        stopping: set when the user wants to stop.
    """

    def __init__(self, console: Console, system: System, key: str, stopping: StopFlag) -> None:
        self.console = console
        self.system = system
        self.failures: list[str] = []
        self.sink = WebhookSink()
        self.payment_intent = ""
        self.merchant_payment: Entry | None = None
        self._stopping = stopping
        self._gateway = system.addresses()["gateway"]
        self._tokenizer = system.addresses()["tokenizer"]
        self._http = httpx.Client(auth=(key, ""), timeout=20.0, trust_env=False)
        self._dsn = resolve_dsn(system.config.postgresql, system.config.state_path, AUDITOR)
        self._seen = last_intent(self._dsn)
        self._endpoint = ""
        link = system.config.acquirer_link("pos") or system.config.acquirer[0]
        self._till_address = address_of(link.listen)
        self.till = Acquirer(
            AcquirerProfile(
                link=link.name,
                dialect=link.dialect,
                merchant=system.config.merchant[0].id,
                mac_algorithm=system.config.mac_algorithm(link.mac_key),
            ),
            pin_key=party_key(system.config, link.pin_key),
            mac_key=party_key(system.config, link.mac_key),
        )
        self._book = books_directory(system.config) / f"demo-{time.time_ns()}.jsonl"

    def __enter__(self) -> Day:
        self.sink.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(httpx.HTTPError):
            if self._endpoint:
                self._http.delete(f"{self._gateway}/v1/webhook_endpoints/{self._endpoint}")
        self._http.close()
        self.sink.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        self.console.print(text)

    def expect(self, what: str, right: bool) -> None:
        """Show whether a step ended as it should; a failure decides the exit status."""
        self.console.print(f"[green]✓[/] {escape(what)}" if right else f"[bold red]✗ {escape(what)}[/]")
        if not right:
            self.failures.append(what)

    def at_the_till(self, request: Request, title: str, note: str = "") -> Request:
        """Send a request of the till, bring it to its end, show the exchange."""

        async def perform() -> None:
            async with open_acquirer(self.till, self._till_address) as client:
                await client.perform(request)

        with self._stopping.deferred():  # an interrupt inside trio's scheduler would be a crash
            trio.run(perform)
        write_book(self._book, self.till.book())
        self.console.print(exchange(title, request.message, request.response, note))
        return request

    def call(
        self, path: str, body: dict[str, Any] | None = None, *, tokenizer: bool = False, hidden: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """POST to the merchants' API (or to the tokenizer), show both sides, return status and answer."""
        url = f"{self._tokenizer if tokenizer else self._gateway}{path}"
        body = body or {}
        response = self._http.post(url, data=body)
        answer: dict[str, Any] = response.json()
        if not hidden:
            shown = {name: answer[name] for name in SHOWN if answer.get(name) is not None}
            if "error" in answer:
                members = ("type", "code", "decline_code", "message")
                shown = {"error": {name: answer["error"][name] for name in members if name in answer["error"]}}
            if "card" in answer:
                shown["card"] = {name: answer["card"].get(name) for name in ("brand", "last4", "exp_month", "exp_year")}
            self.console.print(json_call("POST", url, body, response.status_code, shown))
        return response.status_code, answer

    def listen_to(self, event: str) -> None:
        """Register the sink for a kind of event; endpoints of an earlier demo go first."""
        url = f"{self._gateway}/v1/webhook_endpoints"
        for known in self._http.get(url, params={"limit": 100}).json().get("data", []):
            if known.get("description") == "demo":
                self._http.delete(f"{url}/{known['id']}")
        _, answer = self.call(
            "/v1/webhook_endpoints",
            {"url": self.sink.url, "enabled_events[0]": event, "description": "demo"},
            hidden=True,
        )
        self._endpoint, self.sink.secret = answer.get("id", ""), answer.get("secret", "")

    def entries(self, shown: bool = True) -> list[Entry]:
        """The journal's entries since the last look."""
        found = entries_since(self._dsn, self._seen)
        if shown:
            self._seen = max([self._seen, *(entry.intent_id for entry in found)])
        return found

    def settled_entries(self, ready: Callable[[list[Entry]], bool]) -> list[Entry]:
        """The entries since the last look once `ready` holds for them (or patience ends)."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready(self.entries(shown=False)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.entries()

    def show_gateway_messages(self, entries: list[Entry]) -> None:
        """The ISO 8583 side of API calls, as the journal has it."""
        for entry in entries:
            title = f"{entry.link} → switch → {entry.issuer}"
            self.console.print(exchange(title, entry.request, entry.answer, "as the journal has it", from_journal=True))

    def closing(self) -> bool:
        """The books at the end of the day: trial balance, verification, three-way comparison. True if all agree."""
        self.console.print()
        self.console.rule("[bold]The books[/]", align="left")
        config = self.system.config
        proof = proof_of(config, PATIENCE_S)
        balance = trial_balance_of(config)
        print_trial_balance(self.console, balance)
        self.expect("debits equal credits", balance.balanced)
        report = verification_of(config)
        self.expect(f"ledger verify: {verification_text(report)}", report.whole)
        print_proof(self.console, proof)
        self.expect("issuers' books, ledger and acquirers' books agree to the cent", proof.agrees)
        return not self.failures


def purchase_with_pin(day: Day) -> None:
    """A purchase with PIN at the till, ISO 8583"""
    request = day.till.purchase(VISA, 4_250, "EUR", datetime.now(UTC))
    day.at_the_till(
        request,
        "till → switch → alpha",
        "DE 52 leaves the till under its own key; the HSM puts it under the issuer's. DE 64 is a CMAC.",
    )
    day.console.print(journal(day.entries()))
    day.expect("approved", request.response_code == "00")


def merchant_payment(day: Day) -> None:
    """A merchant's payment by JSON: tokenize, authorize, capture"""
    day.listen_to("charge.dispute.created")
    card = {"number": MASTERCARD.pan, "exp_month": 12, "exp_year": 2030, "cvc": "123"}
    _, token = day.call("/v1/tokens", {f"card[{name}]": value for name, value in card.items()}, tokenizer=True)
    day.say("[dim]The merchant's server and the gateway see the token only.[/]")
    _, intent = day.call(
        "/v1/payment_intents",
        {
            "amount": 10_000,
            "currency": "eur",
            "payment_method_data[type]": "card",
            "payment_method_data[card][token]": token.get("id", ""),
            "capture_method": "manual",
            "confirm": "true",
        },
    )
    day.payment_intent = intent.get("id", "")
    authorized = day.entries()
    day.show_gateway_messages(authorized)
    day.console.print(journal(authorized))
    day.merchant_payment = authorized[0] if authorized else None
    _, captured = day.call(f"/v1/payment_intents/{day.payment_intent}/capture")
    day.console.print(journal(day.settled_entries(_acknowledged)))
    day.expect("authorized: requires_capture", intent.get("status") == "requires_capture")
    day.expect("captured: succeeded, 100.00 EUR received", captured.get("amount_received") == 10_000)


def partial_refund(day: Day) -> None:
    """A partial refund"""
    _, refund = day.call("/v1/refunds", {"payment_intent": day.payment_intent, "amount": 2_500})
    entries = day.entries()
    day.show_gateway_messages(entries)
    day.console.print(journal(entries))
    day.expect("25.00 EUR went back, and the fee in proportion", refund.get("status") == "succeeded")


def insufficient_funds(day: Day) -> None:
    """A decline: insufficient funds"""
    status, answer = day.call(
        "/v1/payment_intents",
        {
            "amount": 90_000,
            "currency": "eur",
            "payment_method": "pm_card_chargeDeclinedInsufficientFunds",
            "confirm": "true",
        },
    )
    entries = day.entries()
    day.show_gateway_messages(entries)
    day.console.print(journal(entries))
    error = answer.get("error", {})
    day.expect(
        "402 card_declined, insufficient_funds; nothing booked",
        status == 402 and error.get("decline_code") == "insufficient_funds" and not any(e.lines for e in entries),
    )


def silent_issuer(day: Day) -> None:
    """An issuer that does not answer in time, and the reversal that follows"""
    rule = {"kind": "silence", "name": "demo", "amount_minor": 6_666, "count": 1, "mti": ["0200"]}
    ask(day.system.control_socket("beta"), "fault", rule=rule)
    day.say("[dim]Issuer beta books the purchase and says nothing. The switch answers for it at the deadline.[/]")
    request = day.till.purchase(MASTERCARD, 6_666, "EUR", datetime.now(UTC))
    began = time.monotonic()
    day.at_the_till(request, "till → switch → beta", "")
    waited_s = time.monotonic() - began
    entries = day.settled_entries(_acknowledged)
    day.console.print(journal(entries))
    for advice in (advice for entry in entries for advice in entry.advices):
        code = advice.response_code
        answer = Message(response_mti(advice.message.mti), {39: code}) if code else None
        day.console.print(exchange(f"switch → {advice.link}", advice.message, answer, "stored advice", True))
    day.expect(f"answered 91 after {waited_s:.1f} s, nothing booked", request.response_code == "91")
    codes = [advice.response_code for entry in entries for advice in entry.advices if advice.message.mti == "0420"]
    day.expect("the reversal 0420 was delivered and acknowledged", codes == ["00"])


def chargeback(day: Day) -> None:
    """A chargeback from the issuer, up to the merchant's webhook"""
    paid = day.merchant_payment
    if paid is None:
        day.expect("there is a payment to charge back", False)
        return
    ask(day.system.control_socket(paid.issuer), "chargeback", reference=paid.network_key, amount_minor=7_500)
    day.say(f"[dim]Issuer {paid.issuer} takes back what is left of the merchant's payment, 75.00 EUR.[/]")
    entries = day.settled_entries(lambda found: bool(found) and _acknowledged(found))
    day.console.print(journal(entries))
    for entry in entries:
        day.console.print(exchange(f"{entry.link} → switch", entry.request, entry.answer, from_journal=True))
    event = day.sink.wait_for(partial(_disputes, payment_intent=day.payment_intent), PATIENCE_S)
    if event is not None:
        dispute = event["data"]["object"]
        day.say(
            f"[dim]webhook, signature right:[/] {event['type']}  {dispute['id']}  "
            f"{dispute['amount']} {dispute['currency']}  {dispute.get('status', '')}"
        )
    day.expect("booked, with the dispute fee", any(entry.decision == "approved" for entry in entries))
    day.expect("the merchant got a signed webhook: charge.dispute.created", event is not None)


STEPS: tuple[Callable[[Day], None], ...] = (
    purchase_with_pin,
    merchant_payment,
    partial_refund,
    insufficient_funds,
    silent_issuer,
    chargeback,
)


def _acknowledged(entries: list[Entry]) -> bool:
    """All are decided and every stored advice has its answer."""
    return bool(entries) and all(
        entry.decision and all(advice.response_code for advice in entry.advices) for entry in entries
    )


def _disputes(event: dict[str, Any], payment_intent: str) -> bool:
    data = event.get("data", {}).get("object", {})
    return event.get("type") == "charge.dispute.created" and data.get("payment_intent") == payment_intent
