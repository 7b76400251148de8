"""A chat: one page over HTTP, one room over WebSocket, in plain ASGI.

Run it with `miniasgi serve examples/chat.py:app` and open the link in two windows.
"""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chat</title>
<style>
  :root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
  body { display: flex; flex-direction: column; box-sizing: border-box; height: 100dvh; max-width: 42rem;
         margin: 0 auto; padding: 1rem; }
  h1 { font-size: 1.25rem; margin: 0; }
  #state { color: GrayText; font-size: .875rem; }
  #messages { flex: 1; overflow-y: auto; margin: 1rem 0; padding: 0; list-style: none; }
  #messages li { padding: .375rem 0; border-bottom: 1px solid color-mix(in srgb, CanvasText 12%, Canvas);
                 overflow-wrap: anywhere; }
  form { display: flex; gap: .5rem; }
  input { flex: 1; min-width: 0; font: inherit; padding: .5rem .75rem; }
  button { font: inherit; padding: .5rem 1rem; }
</style>
<h1>Chat</h1>
<div id="state" role="status">Connecting …</div>
<ul id="messages" aria-live="polite"></ul>
<form><input id="text" aria-label="Message" placeholder="Say something" autocomplete="off" autofocus>
<button>Send</button></form>
<script>
  const state = document.querySelector("#state"), messages = document.querySelector("#messages");
  const text = document.querySelector("#text");
  let socket;
  function connect() {
    socket = new WebSocket(location.href.replace(/^http/, "ws"));
    socket.onopen = () => { state.textContent = "Connected"; };
    socket.onmessage = ({data}) => {
      const line = document.createElement("li");
      line.textContent = data;
      messages.append(line);
      line.scrollIntoView();
    };
    socket.onclose = () => {
      state.textContent = "Connection lost, trying again …";
      setTimeout(connect, 1000);
    };
  }
  document.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    if (text.value && socket.readyState === WebSocket.OPEN) { socket.send(text.value); text.value = ""; }
  };
  connect();
</script>
</html>
"""

room = set()  # the send() of everybody who is in


async def app(scope, receive, send):
    if scope["type"] == "http":
        await page(send)
    elif scope["type"] == "websocket":
        await chat(receive, send)


async def page(send):
    body = PAGE.encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def chat(receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    room.add(send)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text"):
                await tell_everybody(message["text"])
    finally:
        room.discard(send)


async def tell_everybody(text):
    for send in list(room):
        try:
            await send({"type": "websocket.send", "text": text})
        except OSError:
            room.discard(send)  # left a moment ago
