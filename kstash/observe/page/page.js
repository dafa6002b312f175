const PAUSE_MS = 2000;

async function renew() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("status");
    const status = await answer.json();
    document.querySelector("h1").textContent = status.application_id;
    state.textContent = status.state;
    const table = document.createElement("table");
    for (const task of status.tasks) {
      const row = table.insertRow();
      for (const text of [task.name, task.state, task.position, task.lag_records ?? "–"])
        row.insertCell().textContent = text;
    }
    document.getElementById("tasks").replaceChildren(table);
  } catch {
    state.textContent = "not reachable";
  }
  setTimeout(renew, PAUSE_MS);
}

renew();
