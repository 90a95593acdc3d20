//! Who is online here, as told by what the gateway sees.
