-- A datacenter's server, in a container: LOCAL_HOST and GLOBAL_HOST name it, and what it
-- keeps to itself is in /keys/server.

local function secret(name)
  local file = assert(io.open("/keys/server/" .. name))
  local line = file:read("l")
  file:close()
  return line
end

local control = "gwctl." .. ENV_LOCAL_HOST

pidfile = "/run/prosody/prosody.pid"
data_path = "/var/lib/prosody"
log = { info = "*console" }
plugin_paths = { "/usr/local/lib/prosody/modules" }
modules_enabled = {
  "roster", "saslauth", "tls", "disco", "vcard_legacy", "pep", "ping", "carbons", "mam",
  "offline", "smacks", "blocklist", "csi", "time", "version", "private", "admin_adhoc",
}
-- The other datacenters are reached through the gateway, and nobody else is.
modules_disabled = { "s2s" }
authentication = "internal_hashed"
c2s_require_encryption = true
component_ports = { 5347 }
-- Only containers of this datacenter are on its network.
component_interfaces = { "*" }

VirtualHost (ENV_LOCAL_HOST)
  ssl = {
    certificate = "/keys/server/" .. ENV_LOCAL_HOST .. ".pem";
    key = "/keys/server/" .. ENV_LOCAL_HOST .. ".key";
  }
  modules_enabled = { "privilege", "strait_accounts" }
  admins = { control }
  privileged_entities = { [control] = { presence = "managed_entity" } }

Component (ENV_GLOBAL_HOST)
  component_secret = secret("component")

Component (control)
  component_secret = secret("control")
  modules_enabled = { "privilege" }
