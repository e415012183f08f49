/** Says something at the top of the page, where screen readers hear of it too. */
export function tell(text: string): void {
  const message = document.createElement("p");
  message.className = "message";
  message.textContent = text;
  document.getElementById("messages")?.replaceChildren(message);
}
