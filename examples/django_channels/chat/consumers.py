"""The WebSockets of the example."""

import json

from channels.generic.websocket import AsyncWebsocketConsumer


class EchoConsumer(AsyncWebsocketConsumer):
    """Answers each message."""

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=json.dumps({"message": f"Received: {text_data}"}))


class NobodyConsumer(AsyncWebsocketConsumer):
    """Refuses: closed before it is accepted, a WebSocket is answered with 403."""

    async def connect(self):
        await self.close()


class RoomConsumer(AsyncWebsocketConsumer):
    """Everybody in a room hears what anybody in it says, over the channel layer."""

    async def connect(self):
        self.group = f"room.{self.scope['url_route']['kwargs']['name']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        user = self.scope["user"]
        said = {"type": "room.said", "who": user.get_username() or "anonymous", "text": text_data}
        await self.channel_layer.group_send(self.group, said)

    async def room_said(self, event):
        await self.send(text_data=json.dumps({"who": event["who"], "message": event["text"]}))
