
// The card's number, date and code stay in this frame: they go to /v1/tokens of this page's own origin and nowhere
// else. What the page around it hears is listed in `tell`: sizes, states, the brand, and at the end the token.
(() => {
  "use strict";

  const PROTOCOL = 1;
  const TIMEOUT_MS = 20000;
  const YEARS_AHEAD = 50;
  const KEY = /^pk_test_[A-Za-z0-9_]{1,120}$/;

  // First digits (from, to), as in messages/card_numbers.py; a test holds the two against each other.
  const BRANDS = [
    ["4", "4", "visa"], ["51", "55", "mastercard"], ["2221", "2720", "mastercard"], ["34", "34", "amex"],
    ["37", "37", "amex"], ["6011", "6011", "discover"], ["644", "649", "discover"], ["65", "65", "discover"],
    ["300", "305", "diners"], ["3095", "3095", "diners"], ["36", "36", "diners"], ["38", "39", "diners"],
    ["3528", "3589", "jcb"], ["62", "62", "unionpay"], ["81", "81", "unionpay"], ["5018", "5018", "maestro"],
    ["5020", "5020", "maestro"], ["5038", "5038", "maestro"], ["5893", "5893", "maestro"],
    ["6304", "6304", "maestro"], ["6759", "6759", "maestro"], ["6761", "6763", "maestro"], ["50", "50", "maestro"],
    ["56", "58", "maestro"], ["6390", "6390", "maestro"], ["67", "67", "maestro"], ["2200", "2204", "mir"],
  ];
  const SHOWN = {
    visa: "Visa", mastercard: "Mastercard", amex: "Amex", discover: "Discover", diners: "Diners Club", jcb: "JCB",
    unionpay: "UnionPay", maestro: "Maestro", mir: "Mir", unknown: "",
  };
  const LENGTHS = {
    visa: [13, 16, 19], mastercard: [16], amex: [15], discover: [16, 17, 18, 19], diners: [14, 15, 16, 17, 18, 19],
    jcb: [16, 17, 18, 19], unionpay: [16, 17, 18, 19], mir: [16, 17, 18, 19],
  };
  const USUAL_LENGTH = { amex: 15, diners: 14, maestro: 19 };
  const ANY_LENGTH = [12, 13, 14, 15, 16, 17, 18, 19];
  const TEXTS = {
    incomplete_number: "Your card number is incomplete.",
    incorrect_number: "Your card number is not valid.",
    incomplete_expiry: "Your card's expiry date is incomplete.",
    invalid_expiry: "Your card's expiry date is not valid.",
    expired_card: "Your card's expiry date is in the past.",
    incomplete_cvc: "Your card's security code is incomplete.",
    no_key: "This form has no publishable key.",
    unreachable: "Your card could not be sent. Check your connection and try again.",
    busy: "Too many attempts. Please wait a moment.",
    refused: "Your card could not be accepted. Please try again.",
  };

  const parameters = new URLSearchParams(location.search);
  const parentOrigin = parameters.get("origin") || "";
  const form = document.getElementById("card");
  const names = ["number", "expiry", "cvc"];
  const inputs = Object.fromEntries(names.map((name) => [name, document.getElementById(name)]));
  const touched = new Set();
  let key = "";
  let create = "token";
  let sending = false;
  let said = "";

  const tell = (type, more) => {
    if (window.parent !== window) window.parent.postMessage({ cardswitch: PROTOCOL, type, ...more }, parentOrigin);
  };

  // ---- what has been typed ----

  const digitsOf = (text) => text.replace(/[^0-9]/g, "");

  const brandOf = (digits) => {
    for (const [first, last, name] of BRANDS) {
      const leading = digits.slice(0, first.length);
      if (digits.length >= first.length && first <= leading && leading <= last) return name;
    }
    return "unknown";
  };

  const luhnValid = (digits) => {
    let sum = 0;
    for (let place = 0; place < digits.length; place += 1) {
      let digit = digits.charCodeAt(digits.length - 1 - place) - 48;
      if (place % 2 === 1) digit = digit > 4 ? digit * 2 - 9 : digit * 2;
      sum += digit;
    }
    return sum % 10 === 0;
  };

  const lengthsOf = (brand) => LENGTHS[brand] || ANY_LENGTH;
  const cvcLength = () => (brandOf(digitsOf(inputs.number.value)) === "amex" ? 4 : 3);

  const expiryOf = (text) => {
    const parts = text.match(/^\s*(\d{1,2})\s*[/.-]?\s*(\d{2}|\d{4})\s*$/);
    if (!parts) return null;
    const year = Number(parts[2]);
    return { month: Number(parts[1]), year: year < 100 ? 2000 + year : year };
  };

  const problemOf = {
    number: () => {
      const digits = digitsOf(inputs.number.value);
      const lengths = lengthsOf(brandOf(digits));
      if (digits.length < lengths[0]) return "incomplete_number";
      if (!lengths.includes(digits.length)) {
        return digits.length < lengths[lengths.length - 1] ? "incomplete_number" : "incorrect_number";
      }
      return luhnValid(digits) ? "" : "incorrect_number";
    },
    expiry: () => {
      if (digitsOf(inputs.expiry.value).length < 3) return "incomplete_expiry";
      const expiry = expiryOf(inputs.expiry.value);
      const now = new Date();
      if (!expiry) return "incomplete_expiry";
      if (expiry.month < 1 || expiry.month > 12 || expiry.year > now.getFullYear() + YEARS_AHEAD) return "invalid_expiry";
      const past = expiry.year < now.getFullYear()
        || (expiry.year === now.getFullYear() && expiry.month < now.getMonth() + 1);
      return past ? "expired_card" : "";
    },
    cvc: () => (digitsOf(inputs.cvc.value).length === cvcLength() ? "" : "incomplete_cvc"),
  };

  // ---- what is shown ----

  const show = (name, text) => {
    document.getElementById(`${name}-error`).textContent = text;
    if (name === "form") return;
    document.getElementById(`${name}-field`).classList.toggle("invalid", text !== "");
    if (text) inputs[name].setAttribute("aria-invalid", "true");
    else inputs[name].removeAttribute("aria-invalid");
  };

  const report = () => {
    const problems = names.map((name) => problemOf[name]());
    const shown = names.findIndex((name, index) => touched.has(name) && problems[index] !== "");
    const state = {
      brand: brandOf(digitsOf(inputs.number.value)),
      complete: problems.every((problem) => problem === ""),
      empty: names.every((name) => inputs[name].value === ""),
      error: shown < 0 ? null : { code: problems[shown], field: names[shown], message: TEXTS[problems[shown]] },
    };
    const text = JSON.stringify(state);
    if (text !== said) {
      said = text;
      tell("change", state);
    }
  };

  const grouped = (digits, brand) => {
    const sizes = brand === "amex" ? [4, 6, 5] : brand === "diners" && digits.length <= 14 ? [4, 6, 4] : [4, 4, 4, 4, 3];
    const groups = [];
    let from = 0;
    for (const size of sizes) {
      if (from >= digits.length) break;
      groups.push(digits.slice(from, from + size));
      from += size;
    }
    return groups.join(" ");
  };

  // Writes `text` and keeps the caret behind as many digits as it was behind before.
  const rewrite = (input, text) => {
    if (input.value === text) return;
    const atEnd = input.selectionStart === input.value.length;
    const before = digitsOf(input.value.slice(0, input.selectionStart || 0)).length;
    input.value = text;
    if (document.activeElement !== input) return;
    let caret = text.length;
    if (!atEnd) {
      caret = 0;
      for (let seen = 0; caret < text.length && seen < before; caret += 1) if (/[0-9]/.test(text[caret])) seen += 1;
    }
    input.setSelectionRange(caret, caret);
  };

  const format = {
    number: () => {
      const brand = brandOf(digitsOf(inputs.number.value));
      const lengths = lengthsOf(brand);
      rewrite(inputs.number, grouped(digitsOf(inputs.number.value).slice(0, lengths[lengths.length - 1]), brand));
      document.getElementById("brand").textContent = SHOWN[brand];
      inputs.cvc.maxLength = cvcLength();
      inputs.cvc.placeholder = cvcLength() === 4 ? "4 digits" : "CVC";
    },
    expiry: (deleting) => {
      const typed = inputs.expiry.value;
      if (/^\s*\d{1,2}\s*[/.-]\s*\d{4}\s*$/.test(typed)) {
        const { month, year } = expiryOf(typed);  // as browsers fill it in
        rewrite(inputs.expiry, `${String(month).padStart(2, "0")} / ${String(year % 100).padStart(2, "0")}`);
        return;
      }
      let digits = digitsOf(typed);
      if (/^[2-9]/.test(digits) || /^\s*1\s*\//.test(typed)) digits = `0${digits}`;
      digits = digits.slice(0, 4);
      if (digits.length > 2) rewrite(inputs.expiry, `${digits.slice(0, 2)} / ${digits.slice(2)}`);
      else if (digits.length === 2 && !deleting) rewrite(inputs.expiry, `${digits} / `);
      else rewrite(inputs.expiry, digits);
    },
    cvc: () => rewrite(inputs.cvc, digitsOf(inputs.cvc.value).slice(0, cvcLength())),
  };

  const judge = (name) => {
    const problem = problemOf[name]();
    show(name, touched.has(name) && problem ? TEXTS[problem] : "");
    return problem;
  };

  // Whether nobody would go on typing here: a right number of 13 digits may be the beginning of one of 16.
  const full = (name) => {
    const input = inputs[name];
    if (problemOf[name]() !== "" || input.selectionStart !== input.value.length) return false;
    const digits = digitsOf(input.value);
    return name !== "number" || digits.length === (USUAL_LENGTH[brandOf(digits)] || 16);
  };

  // ---- the token ----

  const failed = (code, message, field) => {
    if (field) {
      show(field, message);
      inputs[field].focus();
    } else show("form", message);
    tell("error", { error: { code, field: field || null, message } });
  };

  const FIELD_OF = { number: "number", exp_month: "expiry", exp_year: "expiry", cvc: "cvc" };

  const send = async () => {
    const { month, year } = expiryOf(inputs.expiry.value);
    const number = digitsOf(inputs.number.value);
    const body = new URLSearchParams({
      "card[number]": number, "card[exp_month]": month, "card[exp_year]": year, "card[cvc]": digitsOf(inputs.cvc.value),
    });
    if (create === "payment_method") body.set("type", "card");
    const answer = await fetch(`v1/${create}s`, {
      method: "POST", headers: { Authorization: `Bearer ${key}` }, body, credentials: "omit", cache: "no-store",
      mode: "same-origin", redirect: "error", referrerPolicy: "no-referrer", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const made = await answer.json();
    if (answer.ok) {
      const { last4, exp_month, exp_year } = made.card;
      tell("token", { token: { id: made.id, brand: brandOf(number), last4, exp_month, exp_year } });
      return;
    }
    const error = made.error || {};
    const field = FIELD_OF[error.param];
    if (answer.status === 429) failed("rate_limit", TEXTS.busy);
    else if (error.type === "card_error" && field) failed(error.code, error.message, field);
    else failed(error.code || error.type || "refused", TEXTS.refused);
  };

  const submit = async () => {
    if (sending) return;
    show("form", "");
    names.forEach((name) => touched.add(name));
    const problems = names.map(judge);
    report();
    const first = problems.findIndex((problem) => problem !== "");
    if (first >= 0) return failed(problems[first], TEXTS[problems[first]], names[first]);
    if (!key) return failed("no_key", TEXTS.no_key);
    sending = true;
    names.forEach((name) => { inputs[name].disabled = true; });
    const enable = () => names.forEach((name) => { inputs[name].disabled = false; });
    try {
      await send().finally(enable);
    } catch (error) {
      failed("unreachable", TEXTS.unreachable);
    } finally {
      sending = false;
    }
  };

  const clear = () => {
    names.forEach((name) => {
      inputs[name].value = "";
      show(name, "");
    });
    touched.clear();
    show("form", "");
    format.number();
    report();
  };

  // ---- looks: the server has checked these already ----

  const dress = () => {
    const root = document.documentElement;
    const mode = parameters.get("mode");
    const night = matchMedia("(prefers-color-scheme: dark)");
    const light = () => root.classList.toggle("dark", mode === "dark" || (mode === "auto" && night.matches));
    light();
    night.addEventListener("change", light);
    for (const name of ["accent", "text", "background", "border", "error"]) {
      const value = parameters.get(name);
      if (/^[0-9a-f]{6}$/.test(value || "")) root.style.setProperty(`--${name}`, `#${value}`);
    }
    for (const name of ["size", "radius"]) {
      const value = parameters.get(name);
      if (/^[0-9]{1,2}$/.test(value || "")) root.style.setProperty(`--${name}`, `${value}px`);
    }
    const fonts = { serif: "Georgia, 'Times New Roman', serif", mono: "ui-monospace, Menlo, Consolas, monospace" };
    const font = fonts[parameters.get("font")];
    if (font) root.style.setProperty("--font", font);
  };

  // ---- the page around ----

  const orders = {
    init: (message) => {
      if (!KEY.test(message.key)) return;
      key = message.key;
      create = message.create === "payment_method" ? "payment_method" : "token";
      report();
    },
    tokenize: submit,
    clear,
    focus: () => inputs.number.focus(),
  };

  window.addEventListener("message", (event) => {
    if (event.source !== window.parent || event.origin !== parentOrigin) return;
    const message = event.data;
    if (!message || message.cardswitch !== PROTOCOL || !Object.hasOwn(orders, message.type)) return;
    orders[message.type](message);
  });

  names.forEach((name, index) => {
    const input = inputs[name];
    input.addEventListener("input", (event) => {
      const deleting = (event.inputType || "").startsWith("delete");
      format[name](deleting);
      if (name === "number" && touched.has("cvc")) judge("cvc");
      judge(name);
      report();
      if (!deleting && index + 1 < names.length && full(name)) inputs[names[index + 1]].focus();
    });
    input.addEventListener("blur", () => {
      if (input.value) touched.add(name);
      judge(name);
      report();
    });
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Backspace" || input.value !== "" || index === 0) return;
      event.preventDefault();
      inputs[names[index - 1]].focus();
    });
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });

  dress();
  format.number();
  new ResizeObserver(() => tell("resize", { height: Math.ceil(document.body.getBoundingClientRect().height) }))
    .observe(document.body);
  tell("ready", {});
})();
