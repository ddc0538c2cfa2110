"""Make buckets that are not there yet: ``buckets.py NAME...``; address and keys come from the ``AWS_*`` variables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterable


def make_buckets(names: Iterable[str]) -> None:
    """Make the buckets; one that is there already is left as it is."""
    store = boto3.client("s3")
    there = {bucket["Name"] for bucket in store.list_buckets().get("Buckets", [])}
    for name in names:
        if name in there:
            continue
        try:
            store.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


if __name__ == "__main__":
    make_buckets(sys.argv[1:])
