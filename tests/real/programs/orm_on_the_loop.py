"""Uses Django's ORM where the loop runs, and in another thread. Argument: the database, which has the table."""

import sys

import django
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, models

from bridge import block_on, in_thread

settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}})
django.setup()


class Book(models.Model):
    title = models.CharField(max_length=50)

    class Meta:
        app_label = "library"
        db_table = "library_book"


def sync_code():
    Book.objects.create(title="by sync code")
    counted = block_on(Book.objects.acount())  # finds this thread, which waits
    connections.close_all()
    return counted


try:
    Book.objects.count()
except SynchronousOnlyOperation:
    print("refused")
print(block_on(Book.objects.acount()))  # in asgiref's own thread
print(block_on(in_thread(sync_code)))
