-- A datacenter's server, in a container; LOCAL_HOST names it, and what it keeps to itself
-- is in /keys/server.
pidfile = "/run/prosody/prosody.pid"
data_path = "/var/lib/prosody"
log = { info = "*console" }
plugin_paths = { "/usr/local/lib/prosody/modules" }
modules_enabled = {
  "roster", "saslauth", "tls", "disco", "vcard_legacy", "pep", "ping", "carbons", "mam",
  "offline", "smacks", "blocklist", "csi", "time", "version", "private", "strait_accounts",
}
-- The other datacenters are reached through the gateway, and nobody else is.
modules_disabled = { "s2s" }
authentication = "internal_hashed"
c2s_require_encryption = true

VirtualHost (ENV_LOCAL_HOST)
  ssl = {
    certificate = "/keys/server/" .. ENV_LOCAL_HOST .. ".pem";
    key = "/keys/server/" .. ENV_LOCAL_HOST .. ".key";
  }

-- What the gateway needs: `strait snippet prosody`.
Include "/keys/server/strait"
