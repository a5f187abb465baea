"""The card-network switch: links, the authorization pipeline, stored advices, recovery."""
