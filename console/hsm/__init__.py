"""Commands of officers: `cardswitch hsm`."""
