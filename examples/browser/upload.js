// A client for web pages: uploads a File (or Blob) from a page of any origin that `cors.allowed_origins` and
// `storage.cors.allowed_origins` name. docs/wire.md says what each call means. Pages have to be served over https, or
// from localhost, since only there do browsers hash.

const AT_ONCE = 4; // Parts on their way at once. More is not faster, and each holds a connection of the browser.
const TRIES = 4;
const PAGE = 100; // Parts signed by one call. Their URLs have to last until the page's last part is on its way.

export class Problem extends Error {
  constructor(document) {
    super(document.detail);
    this.code = document.code;
    this.retryAfter = document.retry_after;
  }
}

export class Client {
  constructor(server, token) {
    this.server = server.replace(/\/+$/, "");
    this.token = token;
  }

  /** Upload `file` as `name`; `progress(sent, total)` hears of bytes. Given again after a crash, it goes on. */
  async upload(name, file, progress = () => {}) {
    const declared = await this.#declare(name, file);
    for (let recheck = 0; recheck < TRIES; recheck++) {
      const answer = await this.#call("initiate_multipart_upload", { ...declared, recheck });
      if (answer.status === "exists") return answer.file;
      if (answer.status === "copying") {
        const copied = await this.#copied(answer).catch(unless("parts_missing", "upload_gone"));
        if (copied) return copied.file;
        continue;
      }
      if (await this.#send(answer, file, declared, progress)) {
        const done = await this.#copied({ upload_id: answer.upload_id, retry_after: 0 });
        return done.file;
      }
    }
    throw new Error(`${name} could not be sent`);
  }

  /** A URL that shows the file to whoever holds it, for `seconds`. */
  async url(name, seconds = 60) {
    return (await this.#call("access_url", { name, expires_in: seconds })).url;
  }

  async #declare(name, file) {
    const limits = await this.#call("part_limit");
    let partSize = limits.part_size;
    while (Math.ceil(file.size / partSize) > limits.max_parts) partSize *= 2;
    const hashes = [];
    for (let at = 0; at < file.size; at += partSize) {
      hashes.push(await sha256(await file.slice(at, at + partSize).arrayBuffer()));
    }
    const whole = new Uint8Array(32 * hashes.length);
    hashes.forEach((hash, index) => whole.set(hash, 32 * index));
    return {
      name,
      size: file.size,
      part_size: partSize,
      file_hash: hex(await sha256(whole)),
      parts: hashes.map(hex),
      ...(file.type && { content_type: file.type }),
    };
  }

  /** Whether every part was sent. A PUT that commits is never signed again: initiate decides anew. */
  async #send(answer, file, declared, progress) {
    const held = new Set(answer.uploaded.map((part) => part.part_number));
    let sent = answer.uploaded.reduce((sum, part) => sum + part.length, 0);
    const one = async (part) => {
      for (let tries = 1; !(await put(part, file)); tries++) {
        if (answer.commit === "put" || tries === TRIES) return false;
        [part] = await this.#sign(answer, [part.part_number]);
      }
      progress((sent += part.length), file.size);
      return true;
    };
    // URLs live for minutes, so a large file gets them page by page: the first with the answer, then by auth_sign.
    const first = answer.next_part_number ?? Infinity;
    const later = declared.parts.map((_, index) => index + 1).filter((number) => number >= first && !held.has(number));
    for (let page = answer.parts; page.length > 0; page = await this.#sign(answer, later.splice(0, PAGE))) {
      if ((await inParallel(page, one)).includes(false)) return false;
      if (later.length === 0) return true;
    }
    return true;
  }

  /** The parts, signed. Any answer may carry a newer id. */
  async #sign(answer, numbers) {
    const signed = await this.#call("auth_sign", { upload_id: answer.upload_id, part_numbers: numbers });
    answer.upload_id = signed.upload_id;
    return signed.parts;
  }

  /** Complete, as often as it takes while the store copies. */
  async #copied(answer) {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * answer.retry_after));
      answer = await this.#call("complete_multipart_upload", { upload_id: answer.upload_id });
      if (answer.status !== "copying") return answer;
    }
  }

  async #call(name, body = {}) {
    for (let tries = 1; ; tries++) {
      const answer = await fetch(`${this.server}/object/${name}`, {
        method: "POST",
        headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
      const document = await answer.json();
      if (answer.ok) return document;
      if (document.retry_after === undefined || tries === TRIES) throw new Problem(document);
      await new Promise((resolve) => setTimeout(resolve, 1000 * document.retry_after * (1 + Math.random())));
    }
  }
}

/** Exactly what was signed: method, URL, headers, bytes. The browser adds the length; a slice has no type to add. */
async function put(part, file) {
  try {
    const body = file.slice(part.offset, part.offset + part.length);
    return (await fetch(part.url, { method: part.method, headers: part.headers, body })).ok;
  } catch {
    return false; // A lost connection; or the store does not let this origin through, which no page is told.
  }
}

async function inParallel(items, work) {
  const results = [];
  const queue = [...items.entries()];
  const worker = async () => {
    for (let next; (next = queue.shift()) !== undefined; ) results[next[0]] = await work(next[1]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

const unless = (...codes) => (error) => {
  if (!codes.includes(error.code)) throw error;
};
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
