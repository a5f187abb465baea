// cardswitch card fields: shows the card form of this script's own server in a frame. Card numbers stay in that frame;
// this page hears of the token only. See docs/card-fields.md.
(() => {
  "use strict";

  const PROTOCOL = 1;
  const KEY = /^pk_test_[A-Za-z0-9_]{1,120}$/;
  const TOKEN = /^(?:tok|pm)_[0-9A-Za-z]{1,60}$/;
  const THEME = ["mode", "font", "size", "radius", "accent", "text", "background", "border", "error"];
  const HANDLERS = ["onReady", "onChange", "onToken", "onError"];
  const OPTIONS = ["key", "mount", "create", "theme", "title", ...HANDLERS];
  const FIRST_HEIGHT_PX = 190;

  const server = new URL(".", document.currentScript.src);

  const isObject = (value) => typeof value === "object" && value !== null;

  const checked = (options) => {
    for (const name of Object.keys(options)) {
      if (!OPTIONS.includes(name)) throw new TypeError(`cardswitch.fields: unknown option ${name}`);
    }
    if (/^(?:sk|rk)_/.test(options.key)) {
      throw new TypeError("cardswitch.fields: that is a secret key. It is public now: revoke it, and use pk_test_…");
    }
    if (!KEY.test(options.key)) throw new TypeError("cardswitch.fields: key is a publishable key, pk_test_…");
    if (!["token", "payment_method", undefined].includes(options.create)) {
      throw new TypeError("cardswitch.fields: create is token or payment_method");
    }
    for (const name of HANDLERS) {
      if (options[name] !== undefined && typeof options[name] !== "function") {
        throw new TypeError(`cardswitch.fields: ${name} is a function`);
      }
    }
    const mount = typeof options.mount === "string" ? document.querySelector(options.mount) : options.mount;
    if (!(mount instanceof Element)) throw new TypeError("cardswitch.fields: mount is an element or a selector of one");
    return mount;
  };

  const address = (theme) => {
    const url = new URL("fields", server);
    url.searchParams.set("origin", location.origin);
    for (const [name, value] of Object.entries(theme || {})) {
      if (!THEME.includes(name)) throw new TypeError(`cardswitch.fields: unknown theme ${name}`);
      url.searchParams.set(name, String(value).replace(/^#/, "").toLowerCase());
    }
    return url.href;
  };

  const frameFor = (options) => {
    const frame = document.createElement("iframe");
    frame.title = options.title || "Card details";
    frame.src = address(options.theme);
    frame.referrerPolicy = "no-referrer";
    // The frame's own scheme, or browsers paint a background behind it.
    const scheme = { dark: "dark", auto: "light dark" }[options.theme?.mode] || "light";
    frame.style.cssText = `display: block; width: 100%; height: ${FIRST_HEIGHT_PX}px; border: 0; color-scheme: ${scheme}`;
    return frame;
  };

  // Only these members go on to the page, whatever the message has.
  const tokenOf = ({ id, brand, last4, exp_month, exp_year }) => Object.freeze({ id, brand, last4, exp_month, exp_year });

  const fields = (options) => {
    if (!isObject(options)) throw new TypeError("cardswitch.fields: expected an object of options");
    const mount = checked(options);
    const frame = frameFor(options);
    let waiting = null;
    let ready = false;

    const order = (type, more) => frame.contentWindow?.postMessage({ cardswitch: PROTOCOL, type, ...more }, server.origin);
    const call = (name, value) => { if (options[name]) options[name](value); };
    const settle = (how, value) => {
      const promise = waiting;
      waiting = null;
      if (promise) promise[how](value);
    };
    const failure = (error) => Object.assign(new Error(error.message), { code: error.code, field: error.field });

    const heard = {
      ready: () => {
        order("init", { key: options.key, create: options.create || "token" });
        ready = true;
        call("onReady");
      },
      resize: ({ height }) => {
        if (Number.isFinite(height)) frame.style.height = `${Math.min(Math.max(height, 40), 1000)}px`;
      },
      change: ({ brand, complete, empty, error }) => call("onChange", { brand, complete, empty, error }),
      token: ({ token }) => {
        if (!isObject(token) || !TOKEN.test(token.id)) return;
        const made = tokenOf(token);
        settle("resolve", made);
        call("onToken", made);
      },
      error: ({ error }) => {
        if (!isObject(error)) return;
        const reason = failure(error);
        settle("reject", reason);
        call("onError", reason);
      },
    };

    const listen = (event) => {
      if (event.source !== frame.contentWindow || event.origin !== server.origin) return;
      const message = event.data;
      if (!isObject(message) || message.cardswitch !== PROTOCOL || !Object.hasOwn(heard, message.type)) return;
      heard[message.type](message);
    };

    window.addEventListener("message", listen);
    mount.replaceChildren(frame);

    return Object.freeze({
      // A promise of the token; rejected with an Error that has `code` and `field` where the card is not accepted.
      tokenize: () => new Promise((resolve, reject) => {
        if (!ready) reject(failure({ code: "not_ready", field: null, message: "The card fields are not loaded yet." }));
        else if (waiting) reject(failure({ code: "busy", field: null, message: "A token is being made already." }));
        else {
          waiting = { resolve, reject };
          order("tokenize");
        }
      }),
      clear: () => order("clear"),
      focus: () => order("focus"),
      destroy: () => {
        window.removeEventListener("message", listen);
        settle("reject", failure({ code: "destroyed", field: null, message: "The card fields were removed." }));
        frame.remove();
      },
    });
  };

  window.cardswitch = Object.freeze({ ...window.cardswitch, fields });
})();
