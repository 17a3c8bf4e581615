"""A server that lists and serves objects as Google Cloud Storage and Azure do over HTTP, after their manuals."""

import hashlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

WHEN = "Mon, 01 Jan 2024 00:00:00 GMT"


def _tag(data):
    return hashlib.md5(data).hexdigest()


class FakeStore:
    """Objects by bucket or container and path; `denied` answers everything with 403."""

    def __init__(self):
        self.objects, self.denied, self.read = {}, False, []
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                bucket, _, path = unquote(url.path).strip("/").partition("/")
                if store.denied:
                    self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
                elif bucket not in store.objects:
                    self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
                elif not path:
                    page = _azure_page if query.get("comp") == "list" else _google_page
                    folders, found = store.listed(bucket, query.get("prefix", ""), query.get("delimiter"))
                    self._answer(200, page(folders, found).encode(), {"Content-Type": "application/xml"})
                else:
                    store.read.append(path)
                    self._object(store.objects[bucket][path])

            def _object(self, data):
                headers = {"ETag": f'"{_tag(data)}"', "Last-Modified": WHEN, "x-ms-blob-type": "BlockBlob"}
                given = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if given is None:
                    self._answer(200, data, headers)
                    return
                start, end = int(given[1]), min(int(given[2]), len(data) - 1)
                headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
                self._answer(206, data[start : end + 1], headers)

            def _answer(self, status, body, headers=None):
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def listed(self, bucket, prefix, delimiter):
        """Return the folders and the objects under a prefix."""
        found = {path: data for path, data in sorted(self.objects[bucket].items()) if path.startswith(prefix)}
        if not delimiter:
            return [], found
        folders = sorted(
            {prefix + path[len(prefix) :].split("/")[0] + "/" for path in found if "/" in path[len(prefix) :]}
        )
        return folders, {path: data for path, data in found.items() if "/" not in path[len(prefix) :]}

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)


def _google_page(folders, found):
    items = "".join(
        f"<Contents><Key>{escape(path)}</Key><Size>{len(data)}</Size><ETag>&quot;{_tag(data)}&quot;</ETag>"
        "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
        for path, data in found.items()
    )
    prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders)
    return f"<ListBucketResult><KeyCount>{len(found)}</KeyCount>{items}{prefixes}</ListBucketResult>"


def _azure_page(folders, found):
    blobs = "".join(
        f"<Blob><Name>{escape(path)}</Name><Properties><Last-Modified>{WHEN}</Last-Modified><Etag>{_tag(data)}</Etag>"
        f"<Content-Length>{len(data)}</Content-Length><Content-Type>application/octet-stream</Content-Type>"
        "</Properties></Blob>"
        for path, data in found.items()
    )
    prefixes = "".join(f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>" for folder in folders)
    return f"<EnumerationResults><Blobs>{blobs}{prefixes}</Blobs><NextMarker /></EnumerationResults>"
