"""A client that has gRPC and no tinyraft: it finds the leader, and sends it one word.

    python examples/plain_grpc_client.py 127.0.0.1:50051,127.0.0.1:50052 hello

It knows the original's `Cmd { bytes payload = 1; }` and the standard health service; both messages
have one field, and so are those that protobuf brings along. gRPC itself repeats what a node refused
(UNAVAILABLE): never a command that may have been appended, for a node that takes one says so first.
"""

from __future__ import annotations

import json
import sys

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue, Int32Value, StringValue

LEADER = "quis.RaftLeader"  # or tinyraft.Leader
SERVING = 1
APPLY = "/trevatk.raft.v1.RaftServiceV1/Apply"
RETRIES = {
    "name": [{"service": "trevatk.raft.v1.RaftServiceV1"}],
    "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    },
}


def leads(address: str) -> bool:
    """Ask the health service of one node."""
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )
        try:
            return check(StringValue(value=LEADER), timeout=2).value == SERVING
        except grpc.RpcError:
            return False


def connect(addresses: list[str]) -> grpc.Channel:
    """Open a channel that follows the leader: gRPC watches the health of all, and calls who leads.

    The addresses are numbers here; a name that stands for all of them is `dns:///name:port`.
    """
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": LEADER},
        "methodConfig": [RETRIES],
    }
    options = [("grpc.service_config", json.dumps(config))]
    return grpc.insecure_channel("ipv4:" + ",".join(addresses), options=options)


def main() -> None:
    addresses, word = sys.argv[1].split(","), sys.argv[2].encode()
    print("leader:", next(filter(leads, addresses), "nobody at the moment"))
    with connect(addresses) as channel:
        apply = channel.unary_unary(
            APPLY,
            request_serializer=BytesValue.SerializeToString,
            response_deserializer=Empty.FromString,
        )
        try:
            apply(BytesValue(value=word), timeout=10, wait_for_ready=True)
        except grpc.RpcError as error:
            promise = dict(error.trailing_metadata() or ()).get("tinyraft-outcome")
            certain = "not applied" if promise == "not-applied" else "may have been applied"
            sys.exit(f"{certain}: {error.code().name}: {error.details()}")
    print("applied")


if __name__ == "__main__":
    main()
