// Runs once for each picker, as gradio's `js_on_load`: `element`, `props` and `trigger` are gradio's.
const MIB = 1024 * 1024;
const told = document.createElement("p"); // beside the template, which is drawn anew with each value
told.className = "picker-said";
told.id = "picker-said";
told.setAttribute("role", "alert");
element.after(told);

let coming = 0; // pictures on their way; each stands in the value without an id, so that nothing is asked without it
const listed = () => JSON.parse(props.value || "[]").filter((picture) => picture.id !== null);
const list = (pictures) => {
  props.value = JSON.stringify([...pictures, ...Array(coming).fill({id: null})]);
  element.classList.toggle("busy", coming > 0);
  trigger("change");
};

async function sent(file) {
  if (file.size > MAX_BYTES) throw new Error(`${file.name} is too large: at most ${MAX_BYTES / MIB} MiB are accepted.`);
  const answer = await fetch(new URL(PICTURES, document.baseURI), {
    method: "POST", headers: {"content-type": "application/octet-stream"}, body: file,
  });
  const said = await answer.json().catch(() => ({})); // a proxy's own answer may be anything
  if (said.id) return said;
  if (said.error) throw new Error(`${said.error.message} (${answer.headers.get("x-request-id")})`);
  throw new Error(`${file.name} was not added: something between here and the server answered, with ${answer.status}.`);
}

async function add(files) {
  told.textContent = "";
  coming += files.length;
  list(listed());
  for (const file of files) {
    const more = [];
    try {
      more.push(await sent(file));
    } catch (error) {
      told.textContent = error instanceof TypeError ? "The server cannot be reached; the picture was not added." : error.message;
    }
    coming -= 1;
    list([...listed(), ...more]);
  }
}

element.addEventListener("change", (event) => {
  if (event.target.type !== "file") return;
  add([...event.target.files]);
  event.target.value = "";
});
element.addEventListener("click", (event) => {
  const name = event.target.dataset.remove;
  if (name) { told.textContent = ""; list(listed().filter((picture) => picture.id !== name)); }
});
// All of the page takes files: one that is dropped beside the picker would be shown in the page's place, and the conversation be gone.
const carries = (event) => element.isConnected && event.dataTransfer.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (carries(event)) { event.preventDefault(); element.classList.add("over"); }
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) element.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  element.classList.remove("over");
  if (carries(event)) { event.preventDefault(); add([...event.dataTransfer.files]); }
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length && element.isConnected) { event.preventDefault(); add(files); }
});
