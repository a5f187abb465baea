"""The steps of a request's way through the switch, one file a step; `switch.pipeline` calls them in order."""
