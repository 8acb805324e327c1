"""Files and batches by the OpenAI SDK, unchanged. Arguments: the server's address, a member's name."""

import io
import json
import sys
import time

from openai import NotFoundError, OpenAI

address, member = sys.argv[1:]
client = OpenAI(base_url=f"{address}/v1", timeout=200)


def row(name, model, content):
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def jsonl(*rows):
    return io.BytesIO("".join(json.dumps(one) + "\n" for one in rows).encode())


def finished(batch):
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


document = client.files.create(
    file=("facts.html", io.BytesIO(b"<h1>Sum</h1><p>What is 75 + 2?</p>")),
    purpose="user_data",
    expires_after={"anchor": "created_at", "seconds": 3600},
)
assert document.expires_at == document.created_at + 3600
assert [file.id for file in client.files.list(purpose="user_data") if file.id == document.id]
print("ok upload")

about = [{"type": "file", "file": {"file_id": document.id}}, {"type": "text", "text": "What is 75 + 2?"}]
whole = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": about}])
assert whole.choices[0].message.content
print("ok document")

given = client.files.create(
    file=("in.jsonl", jsonl(row("sum", "demo", "What is 75 + 2?"), row("one", member, "What is 20 + 30?"),
                            row("doc", member, about), row("bad", member, 7))),
    purpose="batch",
)  # fmt: skip
batch = client.batches.create(
    input_file_id=given.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "sdk"}
)
done = finished(batch)
assert done.status == "completed", done
assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (4, 3, 1)
found = {}
for file_id in (done.output_file_id, done.error_file_id):
    for line in client.files.content(file_id).text.splitlines():
        found[json.loads(line)["custom_id"]] = json.loads(line)["response"]
for name, model in (("sum", "demo"), ("one", member), ("doc", member)):
    body = found[name]["body"]
    assert body["choices"][0]["message"]["content"], body
    assert body["fusion"]["fusion"] == model, body
assert found["bad"]["status_code"] == 400
assert done.usage.total_tokens > 0
assert next(one.id for one in client.batches.list(limit=1)) == done.id
print("ok batch")

broken = client.files.create(file=("in.jsonl", io.BytesIO(b"{}\n")), purpose="batch")
failed = finished(
    client.batches.create(input_file_id=broken.id, endpoint="/v1/chat/completions", completion_window="1h")
)
assert failed.status == "failed"
assert failed.errors.data[0].line == 1
print("ok validation")

assert client.files.delete(document.id).deleted
try:
    client.files.retrieve(document.id)
except NotFoundError:
    print("ok delete")
