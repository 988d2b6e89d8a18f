"""Hetzner's own client against an API at HCLOUD_ENDPOINT: what it can do there, it does. Any surprise ends it."""

import os
import sys

from hcloud import APIException, Client
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from hcloud.servers import ServerCreatePublicNetwork

client = Client(
    token=os.environ["HCLOUD_TOKEN"], api_endpoint=os.environ["HCLOUD_ENDPOINT"], poll_interval=0.02, timeout=10
)


def refused(code, action):
    try:
        action()
    except APIException as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"{code} was expected")


kind = client.server_types.get_by_name("cax11")
assert (kind.architecture, kind.cores, kind.memory) == ("arm", 2, 4), kind
assert kind.prices[0]["price_hourly"]["net"] == "0.0060000000", kind.prices
assert client.locations.get_by_name("fsn1").network_zone == "eu-central"
assert client.images.get_by_name_and_architecture("debian-13", "arm").architecture == "arm"

key = client.ssh_keys.create(name="k", public_key=sys.argv[1], labels={"lian": "1"})
assert client.ssh_keys.get_by_fingerprint(key.fingerprint).id == key.id
refused("uniqueness_error", lambda: client.ssh_keys.create(name="other", public_key=sys.argv[1]))

wanted = dict(
    server_type=ServerType(name="cax11"),
    image=Image(name="debian-13"),
    ssh_keys=[key],
    location=Location(name="nbg1"),
    labels={"lian": "1", "lian-lease": "r-1"},
    user_data="#cloud-config\n",
)
refused("invalid_input", lambda: client.servers.create(name="no_host", **wanted))
refused("invalid_input", lambda: client.servers.create(name="long", **(wanted | {"user_data": "x" * 32769})))
refused("invalid_input", lambda: client.servers.create(name="labels", **(wanted | {"labels": {"a": "b c"}})))
refused("invalid_input", lambda: client.servers.create(name="place", **(wanted | {"location": Location(name="ash")})))
made = client.servers.create(name="one", **wanted)
made.action.wait_until_finished()
for action in made.next_actions:
    action.wait_until_finished()
refused("uniqueness_error", lambda: client.servers.create(name="one", **wanted))
net = ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=True)
six = client.servers.create(name="six", public_net=net, **wanted)
assert six.server.public_net.ipv4 is None and six.server.public_net.ipv6.network_mask == "64"
six.action.wait_until_finished()

server = client.servers.get_by_name("one")
assert (server.status, server.location.name, server.image.name) == ("running", "nbg1", "debian-13"), server
assert server.public_net.ipv4.ip and made.root_password is None
assert [action.command for action in server.get_actions()] == ["create_server", "start_server"]
for selector, names in [
    ("lian==1", ["one", "six"]),
    ("lian==1,lian-lease!=r-1", []),
    ("!lian", []),
    ("lian-lease,lian=1", ["one", "six"]),
]:
    assert [found.name for found in client.servers.get_all(label_selector=selector)] == names, selector

assert server.update(labels={"lian": "1", "more": ""}).labels["more"] == ""
assert [found.name for found in client.servers.get_all(label_selector="more")] == ["one"]
for server in client.servers.get_all(label_selector="lian"):
    server.delete().wait_until_finished()
refused("not_found", lambda: client.servers.get_by_id(made.server.id))
assert client.servers.get_all() == []
key.delete()
assert client.ssh_keys.get_all() == [] and client.primary_ips.get_all() == []
print("done")
