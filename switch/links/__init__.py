"""Links: connections of acquirers and issuers, their states, keys and limits; messages in and out, nothing decided."""
