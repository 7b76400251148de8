from django.shortcuts import redirect, render


def index(request):
    return redirect("room", name="lobby")


def room(request, name):
    return render(request, "chat/room.html", {"name": name})
