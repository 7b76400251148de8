"""The ASGI application: Django for HTTP, Channels for WebSocket.

Run it in this folder with `miniasgi serve project.asgi:application`.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django_application = get_asgi_application()  # loads the apps, so it comes before what imports models

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from chat.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": django_application,
        # Where cookies say who a user is, wrap this in channels.security.websocket's
        # AllowedHostsOriginValidator, so that other sites' pages cannot open it in that user's name.
        "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
    }
)
