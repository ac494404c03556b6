// Looks at the status page in a headless Chromium, in light and dark: what axe-core finds, what the keyboard reaches, what the policy blocks, and
// that nothing depends on a script. Speaks the DevTools protocol over pipes, so it needs no package but axe-core.
//
// node status.mjs URL [DIRECTORY]     writes status-light.png and status-dark.png into the directory

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [url, directory] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const problems = [];

/** A browser, and commands to it. */
class Browser {
  constructor() {
    this.profile = mkdtempSync(join(tmpdir(), "hookgate-browser-"));
    const flags = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"];
    const program = process.env.CHROMIUM ?? "chromium";
    this.child = spawn(program, [...flags, `--user-data-dir=${this.profile}`, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.child.on("error", (error) => fail(`${program} cannot be started: ${error.message}`));
    this.waiting = new Map();
    this.listeners = [];
    this.next = 1;
    let text = "";
    this.child.stdio[4].setEncoding("utf8").on("data", (part) => {
      text += part;
      const messages = text.split("\0");
      text = messages.pop();
      messages.map((message) => JSON.parse(message)).forEach((message) => this.receive(message));
    });
  }

  receive(message) {
    const waiting = this.waiting.get(message.id);
    if (waiting === undefined) return this.listeners.forEach((listener) => listener(message));
    this.waiting.delete(message.id);
    return message.error ? waiting.reject(new Error(message.error.message)) : waiting.resolve(message.result);
  }

  send(method, params = {}) {
    const id = this.next++;
    this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.session })}\0`);
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  event(method) {
    return new Promise((resolve) => {
      const listener = (message) => {
        if (message.method !== method) return;
        this.listeners.splice(this.listeners.indexOf(listener), 1);
        resolve(message.params);
      };
      this.listeners.push(listener);
    });
  }

  async evaluate(expression) {
    const answer = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception?.description ?? "an exception in the page");
    return answer.result.value;
  }

  async close() {
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill();
    await ended;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

function fail(text) {
  console.error(text);
  process.exit(1);
}

/** Opens the page with this colour scheme. */
async function open(browser, scheme, width) {
  await browser.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  await browser.send("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: false });
  const loaded = browser.event("Page.loadEventFired");
  const { errorText } = await browser.send("Page.navigate", { url });
  if (errorText) fail(`${url}: ${errorText}`);
  await loaded;
}

/** What axe-core finds, contrast included. */
async function audit(browser, scheme) {
  await browser.evaluate(axe);
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const { violations, incomplete, passes } = await browser.evaluate(`axe.run({ runOnly: ${JSON.stringify(tags)} })`);
  for (const { id, help, nodes } of violations) {
    problems.push(`${scheme}: ${id}: ${help}: ${nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
  }
  if (!passes.some(({ id }) => id === "color-contrast")) problems.push(`${scheme}: no contrast was measured`);
  if (incomplete.some(({ id }) => id === "color-contrast")) problems.push(`${scheme}: some contrast could not be measured`);
  return { passes: passes.length, undecided: incomplete.map(({ id }) => id) };
}

/** Whether the tabulator reaches every link and every region that scrolls, in their order, and shows where it is. */
async function tabulate(browser) {
  const wanted = await browser.evaluate(
    `Array.from(document.querySelectorAll("a[href], [tabindex='0']"), (element, index) => (element.dataset.order = index)).length`);
  for (let index = 0; index < wanted; index += 1) {
    const key = { key: "Tab", code: "Tab", windowsVirtualKeyCode: 9 };
    await browser.send("Input.dispatchKeyEvent", { type: "rawKeyDown", ...key });
    await browser.send("Input.dispatchKeyEvent", { type: "keyUp", ...key });
    const { order, outline, name } = await browser.evaluate(
      `(({ dataset, outerHTML }, style) => ({ order: dataset.order, outline: style.outlineStyle, name: outerHTML.slice(0, 80) }))(document.activeElement, getComputedStyle(document.activeElement))`);
    if (Number(order) !== index) return problems.push(`keyboard: stop ${index} is ${name}`);
    if (outline === "none") problems.push(`keyboard: ${name} does not show that it has the focus`);
  }
  return wanted;
}

/** Scripts are off, as in a browser without them. */
async function picture(browser, scheme) {
  await browser.send("Emulation.setScriptExecutionDisabled", { value: true });
  await open(browser, scheme, 1280);
  const { data } = await browser.send("Page.captureScreenshot", { captureBeyondViewport: true, format: "png" });
  if (directory) writeFileSync(join(directory, `status-${scheme}.png`), Buffer.from(data, "base64"));
  await browser.send("Emulation.setScriptExecutionDisabled", { value: false });
}

const browser = new Browser();
setTimeout(() => fail("the browser takes longer than a minute"), 60_000).unref();
try {
  const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
  browser.session = sessionId;
  browser.listeners.push(({ method, params }) => {
    if (method === "Log.entryAdded" && params.entry.level === "error" && !params.entry.url?.endsWith("/favicon.ico")) problems.push(`browser: ${params.entry.text}`);
    if (method === "Page.javascriptDialogOpening") problems.push(`a script ran: ${params.message}`);
  });
  for (const domain of ["Page", "Runtime", "Log"]) await browser.send(`${domain}.enable`);
  const found = {};
  for (const scheme of ["light", "dark"]) {
    // Wide enough that no cell is scrolled out of sight, where axe-core could not measure its contrast.
    await open(browser, scheme, 1900);
    const scripts = await browser.evaluate(`document.querySelectorAll("script, [onclick], [onerror], img").length`);
    if (scripts !== 0) problems.push(`${scripts} scripts or foreign elements`);
    const background = await browser.evaluate(`getComputedStyle(document.body).backgroundColor`);
    found[scheme] = { background, ...(await audit(browser, scheme)) };
  }
  if (found.light.background === found.dark.background) problems.push("light and dark look the same");
  await open(browser, "light", 1280);
  found.stops = await tabulate(browser);
  // On a narrow screen only tables scroll, not the page.
  await open(browser, "light", 360);
  const excess = await browser.evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`);
  if (excess > 0) problems.push(`the page is ${excess} pixels wider than a narrow screen`);
  for (const scheme of ["light", "dark"]) await picture(browser, scheme);
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
if (problems.length > 0) fail(problems.join("\n"));
