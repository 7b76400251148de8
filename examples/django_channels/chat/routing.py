from django.urls import path, re_path

from . import consumers

websocket_urlpatterns = [
    path("ws/echo/", consumers.EchoConsumer.as_asgi()),
    path("ws/room/<slug:name>/", consumers.RoomConsumer.as_asgi()),
    # Without it, a path that nobody serves would be an error of the application's.
    re_path("", consumers.NobodyConsumer.as_asgi()),
]
