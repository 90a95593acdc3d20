-- Lists the accounts of a host to its admins: XEP-0133's "Get List of Registered
-- Users", which Prosody itself does not have. With it, strait's control component
-- knows which accounts are here before they first log in.
--
--   plugin_paths = { "/usr/local/lib/prosody/modules" }   -- where this file is
--   VirtualHost "dc1.example.com"
--     modules_enabled = { "strait_accounts" }
--     admins = { "gwctl.dc1.example.com" }

local dataforms_new = require "util.dataforms".new;
local usermanager = require "core.usermanager";

module:depends("adhoc");
local adhoc_new = module:require("adhoc").new;

local node = "http://jabber.org/protocol/admin#get-registered-users-list";

local result_layout = dataforms_new {
	{ name = "FORM_TYPE", type = "hidden", value = "http://jabber.org/protocol/admin" };
	{ name = "registereduserjids", type = "jid-multi", label = "The list of all users" };
};

local function list_users()
	local jids = {};
	for username in usermanager.users(module.host) do
		jids[#jids + 1] = username .. "@" .. module.host;
	end
	return { status = "completed", result = { layout = result_layout, values = { registereduserjids = jids } } };
end

module:provides("adhoc", adhoc_new("Get List of Registered Users", node, list_users, "admin"));
