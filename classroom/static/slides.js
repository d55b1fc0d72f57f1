// Spread each section over as many slides as it needs, and make smaller what is too large for one slide.
// It runs in the browser, once fonts and figures are there, because only then are heights known.
(() => {
  const WIDTH = 1200, HEIGHT = 640; // of what stands on a slide: 1280 by 720 less margins and controls
  const SMALLEST_FIGURE = 320, SHORT_TEXT = 200; // heights
  const BOXES = ".cell, .cell_input, .cell_output, .output.text_markdown";

  // Cut a section into parts that stay whole: a paragraph, a piece of code, a table, a figure with its caption.
  // Parts of one cell share a group. What answers a guess of the class is known by its cell.
  function cut(box, group, parts) {
    for (const child of [...box.children]) {
      const figure = parts.at(-1)?.node.querySelector("img"), finding = child.querySelector(":scope > em");
      if (child.matches(BOXES)) {
        cut(child, group ?? child, parts);
      } else if (figure && finding && child.textContent === finding.textContent) {
        parts.at(-1).node.append(child); // the finding below its figure
      } else {
        const node = document.createElement("div"), answers = Boolean(child.closest(".tag_guess .cell_output"));
        node.className = "part";
        node.append(child);
        parts.push({ node, group: group ?? node, answers });
      }
    }
    return parts;
  }

  const height = node => node.getBoundingClientRect().height;

  // Make a part smaller until it fits, first in width, then in height.
  function fit(node, room) {
    const code = [...node.querySelectorAll("pre")].map(pre => WIDTH + pre.scrollWidth - pre.clientWidth);
    let zoom = Math.min(1, WIDTH / Math.max(node.scrollWidth, ...code));
    node.style.zoom = zoom;
    for (let tries = 0; height(node) > room && tries < 5; tries++) {
      zoom *= Math.max(0.8, room / height(node));
      node.style.zoom = zoom;
    }
  }

  const total = parts => parts.reduce((sum, { size }) => sum + size, 0);

  // Return the parts of a section in piles, one a slide. What announces the next part goes with it.
  function pile(parts, room) {
    const piles = [[]];
    for (const [i, part] of parts.entries()) {
      const before = parts[i - 1], current = piles.at(-1);
      const follows = before && (before.group === part.group || before.announces);
      const block = follows ? [part] : ahead(parts, i);
      const over = total(current) + (total(block) <= room ? total(block) : part.size) - room;
      if (current.length && over > 0 && !(block.length === 1 && makeRoom(current, part, over))) {
        piles.push(before.announces && current.length > 1 ? [current.pop()] : []);
      }
      const free = room - total(piles.at(-1));
      if (part.size > free) measure(part, free); // what announces it stands above it
      piles.at(-1).push(part);
    }
    return piles;
  }

  // Make the figure of a pile lower, so that a short text below it does not need a slide of its own.
  function makeRoom(pile, part, over) {
    const figure = pile.findLast(({ node }) => node.querySelector("img"));
    const image = figure?.node.querySelector("img");
    const isText = part.size <= SHORT_TEXT && part.node.matches(":has(> p, > blockquote, > ul)");
    if (!image || !isText || height(image) - over < SMALLEST_FIGURE) return false;
    image.style.maxHeight = `${height(image) - over - 1}px`;
    figure.size = height(figure.node);
    return true;
  }

  function measure(part, room) {
    fit(part.node, room);
    part.size = height(part.node);
  }

  // What answers a guess waits for a key, and so does all below it on the same slide.
  function hide(pile) {
    let answers = -1;
    for (const [i, part] of pile.entries()) {
      if (part.answers && !(pile[i - 1]?.answers && pile[i - 1].group === part.group)) answers++;
      if (answers >= 0) {
        part.node.classList.add("fragment");
        part.node.dataset.fragmentIndex = answers;
      }
    }
  }

  // The parts from i on that should share a slide: a cell, with the sentence that announces it.
  function ahead(parts, i) {
    let end = i + 1;
    while (end < parts.length && (parts[end].group === parts[end - 1].group || parts[end - 1].announces)) end++;
    return parts.slice(i, end);
  }

  function spread(section) {
    const title = section.querySelector("h1, h2, h3");
    const notes = section.querySelector("aside.notes") ?? section.parentElement.querySelector("aside.notes");
    title.remove();
    section.querySelector("aside.notes")?.remove();
    const parts = cut(section, null, []);
    section.replaceChildren(title, ...parts.map(part => part.node));
    const room = HEIGHT - height(title) - parseFloat(getComputedStyle(title).marginBottom);
    for (const part of parts) {
      measure(part, room);
      part.announces = part.node.matches(":has(> p)") && part.node.textContent.trim().endsWith(":");
    }
    const slides = pile(parts, room).map((pile, number) => {
      hide(pile);
      const slide = number ? section.cloneNode(false) : section;
      const head = number ? title.cloneNode(true) : title;
      if (number) head.insertAdjacentHTML("beforeend", ` <span class="continued">(${number + 1})</span>`);
      if (pile[0]?.answers) head.insertAdjacentHTML("beforeend", ` <span class="continued">Your guess?</span>`);
      slide.replaceChildren(head, ...pile.map(part => part.node), ...(notes ? [notes.cloneNode(true)] : []));
      return slide;
    });
    section.after(...slides.slice(1));
  }

  function spreadAll() {
    document.documentElement.classList.add("measuring");
    document.querySelectorAll(".slides > section > section").forEach(spread);
    document.documentElement.classList.remove("measuring");
  }

  const initialize = Reveal.initialize;
  Reveal.initialize = settings => addEventListener("load", async () => {
    await document.fonts.ready;
    spreadAll();
    await initialize.call(Reveal, settings);
    Reveal.addKeyBinding({ keyCode: 36, key: "Home", description: "First slide" }, () => Reveal.slide(0, 0));
  });
})();
