// Asks the server. Paths are relative, so that the page works below a proxy's path as well.

export const INTERVAL_MS = 2000;
export const DEADLINE_MS = 5000;
const TOKEN_KEY = "kstash-token";

/** The server requires a token, or refuses this one. */
export class TokenError extends Error {}

/** The bearer token of this tab, which ends with the tab. */
export const token = {
  kept: null,
  get() {
    try {
      return sessionStorage.getItem(TOKEN_KEY);
    } catch {
      return this.kept; // a browser may forbid storage
    }
  },
  set(value) {
    this.kept = value;
    try {
      if (value === null) sessionStorage.removeItem(TOKEN_KEY);
      else sessionStorage.setItem(TOKEN_KEY, value);
    } catch {
      // It holds until the page is closed.
    }
  },
};

/**
 * One answer.
 * @returns {Promise<[number, any]>} status code, and the JSON of the answer or null
 */
async function ask(path, good) {
  const headers = { accept: "application/json" };
  const secret = token.get();
  if (secret !== null) headers.authorization = `Bearer ${secret}`;
  let answer;
  try {
    answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(DEADLINE_MS) });
    if (answer.status === 401 || answer.status === 403) throw new TokenError();
    if (!good.includes(answer.status)) throw new Error(`it answered ${answer.status}`);
    return [answer.status, answer.status === 404 ? null : await answer.json()];
  } catch (error) {
    throw error instanceof TokenError ? error : new Error(reason(error), { cause: error });
  }
}

function reason(error) {
  if (error.name === "TimeoutError") return `no answer within ${DEADLINE_MS / 1000} s`;
  if (error instanceof TypeError) return "it cannot be reached";
  if (error instanceof SyntaxError) return "what it answered is no JSON";
  return error.message;
}

/**
 * All that the page shows.
 * @throws {TokenError} a token is required
 * @throws {Error} its message is the reason
 */
export async function poll() {
  const [[code, workers], [, topology], [, alive]] = await Promise.all([
    ask("workers", [200, 404]),
    ask("topology", [200, 404]),
    ask("livez", [200, 503, 404]),
  ]);
  const problems = alive === null || alive.ok ? [] : (alive.reasons ?? []);
  if (code !== 404) return { workers, topology, problems };
  const [, status] = await ask("status", [200]);
  const alone = { address: location.host, is_reachable: true, status, error: null };
  return { workers: { workers: [alone] }, topology, problems };
}
