"""Actions on stored cards: `cardswitch vault`."""
