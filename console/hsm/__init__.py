"""What officers do at the command line: `cardswitch hsm`."""
