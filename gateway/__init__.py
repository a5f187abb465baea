"""The merchants' JSON API, an ordinary acquirer of the switch."""
