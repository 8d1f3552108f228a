"""The service that the consumer replaces, as such a script is usually written: it takes one message
at a time, decodes the image, encodes it as PNG, uploads it, and then acknowledges the message.

Settings are environment variables: BROKER_HOST, BROKER_PORT, QUEUE, BUCKET, ONE_SESSION (empty: a
client with its own HTTP session for each message), and those that boto3 reads (AWS_ENDPOINT_URL,
AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
"""

import base64
import io
import json
import os

import boto3
import pika
from PIL import Image

QUEUE = os.environ["QUEUE"]
BUCKET = os.environ["BUCKET"]

# With 1, which is as common, it waits for the broker after every message.
PREFETCH = 10


shared = boto3.client("s3") if os.environ["ONE_SESSION"] else None


def on_message(channel, method, properties, body):
    message = json.loads(body)
    name = message["image_metadata"]["image_name"]
    image = Image.open(io.BytesIO(base64.b64decode(message["image"])))
    png = io.BytesIO()
    image.save(png, format="PNG")
    png.seek(0)
    s3 = shared or boto3.client("s3")
    s3.upload_fileobj(png, BUCKET, name, ExtraArgs={"ContentType": "image/png"})
    channel.basic_ack(delivery_tag=method.delivery_tag)


connection = pika.BlockingConnection(
    pika.ConnectionParameters(host=os.environ["BROKER_HOST"], port=int(os.environ["BROKER_PORT"]))
)
channel = connection.channel()
channel.basic_qos(prefetch_count=PREFETCH)
channel.basic_consume(queue=QUEUE, on_message_callback=on_message)
channel.start_consuming()
