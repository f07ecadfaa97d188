"""The application of Celery: how its messages, its queues and its connections are.

A message is the id of a job, in JSON, and nothing comes back for it.  The only module that knows Celery's settings;
Celery is an extra, and is imported when an application is made.  Its connections have small timeouts: who waits for a
broker that does not answer is a thread of its own.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from mistamover.config.serving import EngineSettings
from mistamover.errors import EngineError
from mistamover.jobs.engine import library_logs
from mistamover.jobs.engine.queues import HIGHEST, NAME, queue_of

#: The name of the one task, part of what is agreed between versions.
TASK: Final = "mistamover.begin"
#: Seconds for a connection, and for an answer of the broker to who publishes.
TIMEOUT: Final = 4.0
#: Seconds after which Redis takes a message back from a worker that has it and says nothing; none needs a tenth of it.
_VISIBILITY: Final = 60
#: Seconds between two signs of life of a consumer at RabbitMQ; after two without any the connection is given up.
_HEARTBEAT: Final = 10
#: Celery would look for these first.
_NOT_OURS: Final = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")


def make(engine: EngineSettings, groups: Iterable[str], begin: Callable[[str], object] | None = None) -> Any:
    """Given the settings, the groups whose queues are listened to, and what a message is given to, return the app.

    Nothing is connected to yet. Raise EngineError if Celery is not there.
    """
    try:
        from celery import Celery
    except ImportError as error:
        raise EngineError(f"celery needs the package {error.name}: pip install mistamover[celery]") from error
    for name in _NOT_OURS:
        os.environ.pop(name, None)
    library_logs.quieten(engine.broker_url)
    app = Celery(NAME, set_as_current=False, fixups=(), changes=_conf(engine, groups))
    # Not shared: the other application of this process, which publishes, would have its task as well.
    app.task(name=TASK, shared=False, lazy=False, typing=False)(begin or _nothing)
    app.finalize()
    return app


def queue(group: str) -> Any:
    """Given a group, return its queue: it and what is in it outlive the broker."""
    from kombu import Exchange, Queue

    name = queue_of(group)
    exchange = Exchange(NAME, type="direct", durable=True)
    return Queue(name, exchange, name, durable=True, queue_arguments={"x-max-priority": HIGHEST + 1})


def priority(engine: EngineSettings, level: int) -> int:
    """Given the priority of a message, return it as the broker takes it: in Redis 0 comes first."""
    return HIGHEST - level if _is_redis(engine) else level


def _nothing(_job_id: str) -> None:
    """Do nothing: who only publishes has the task for its name."""


def _is_redis(engine: EngineSettings) -> bool:
    return engine.broker_url.startswith("redis")


def _conf(engine: EngineSettings, groups: Iterable[str]) -> dict[str, Any]:
    return {
        "broker_url": engine.broker_url,
        "broker_use_ssl": _tls(engine),
        "broker_transport_options": _redis_options() if _is_redis(engine) else _rabbit_options(),
        "broker_connection_timeout": TIMEOUT,
        # Who listens begins anew by itself, with nothing left of the connection before.
        "broker_connection_retry": False,
        "broker_connection_retry_on_startup": False,
        "broker_heartbeat": _HEARTBEAT,
        "broker_pool_limit": None,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_queues": tuple(queue(group) for group in sorted(groups)),
        "task_default_queue": NAME,
        "task_create_missing_queues": False,
        "task_default_delivery_mode": "persistent",
        "task_queue_max_priority": HIGHEST + 1,
        "task_send_sent_event": False,
        "worker_pool": "solo",
        "worker_concurrency": 1,
        "worker_prefetch_multiplier": 1,
        "worker_enable_prefetch_count_reduction": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_detect_quorum_queues": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _rabbit_options() -> dict[str, Any]:
    # No confirmations: the broker gives them when its disk has turned, and what is lost is announced again.
    return {"read_timeout": TIMEOUT, "write_timeout": TIMEOUT}


def _redis_options() -> dict[str, Any]:
    return {
        "visibility_timeout": _VISIBILITY,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "priority_steps": list(range(HIGHEST + 1)),
        "sep": ":",
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


def _tls(engine: EngineSettings) -> dict[str, Any] | bool:
    parts = urlsplit(engine.broker_url)
    ca_file = None if engine.broker_ca_file is None else str(engine.broker_ca_file)
    if parts.scheme == "rediss":
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, "ssl_ca_certs": ca_file}
    if parts.scheme == "amqps":
        context = {"cafile": ca_file, "check_hostname": True}
        return {"context": context, "server_hostname": parts.hostname}
    return False
