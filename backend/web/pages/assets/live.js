"use strict";

// Keeps the parts of a project's page that change up to date. Without it the page is whole, and reloading renews it.
(() => {
  const now = document.getElementById("now");
  const stale = document.getElementById("stale");
  let timer;

  const poll = async () => {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        const answer = await fetch(now.dataset.live, { headers: { Accept: "text/html" } });
        if (!answer.ok) throw new Error(answer.statusText);
        show(new DOMParser().parseFromString(await answer.text(), "text/html"));
        stale.hidden = true;
      } catch {
        stale.hidden = false;
      }
    }
    clearTimeout(timer); // that of another answer: a page that is shown again asks at once, whoever asks already
    timer = setTimeout(poll, now.dataset.active === "yes" ? 2000 : 10000);
  };

  const show = (fresh) => {
    const state = fresh.getElementById("now").dataset;
    const busy = (part) => part.contains(document.activeElement) && document.activeElement !== document.body;
    if (state.mark !== now.dataset.mark && !busy(document.getElementById("main"))) {
      location.reload(); // a retrain has ended or another version serves: charts and examples are out of date
      return;
    }
    now.dataset.active = state.active;
    for (const part of fresh.querySelectorAll("[id^=part-]")) {
      const shown = document.getElementById(part.id);
      if (shown.innerHTML !== part.innerHTML && !busy(shown)) shown.replaceChildren(...part.childNodes);
    }
  };

  document.addEventListener("visibilitychange", () => document.hidden || poll());
  timer = setTimeout(poll, 2000);
})();
