"""The payment HSM: keys, PIN, MAC and the card vault behind one PKCS#11 token."""
