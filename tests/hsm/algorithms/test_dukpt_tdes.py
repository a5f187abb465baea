"""TDES DUKPT against the tables of ANSI X9.24-1, and what is no key serial number.

The values of annex A.4 are taken from openemv/dukpt (test/dukpt_tdes_test.c) and agree with those of moov-io/dukpt for
the counters that it has.
"""

from __future__ import annotations

import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.dukpt_tdes import (
    DUKPT_MASK,
    LAST_COUNTER,
    check_counter,
    data_key,
    device_pin_key,
    initial_key,
    mac_key,
    next_ksn,
    pin_key,
    transaction_key,
)
from hsm.algorithms.mac import retail_mac
from hsm.algorithms.pinblock import encrypt_pin_block, open_pin, seal_pin

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
]

BDK = ClearTdesKey(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
INITIAL_KEY = bytes.fromhex("6AC292FAA1315B4D858AB3A3D7D5933A")
DEVICE = "FFFF9876543210"
PIN, PAN, DATA = "1234", "4012345678909", b"4012345678909D987"

# Source: ANSI X9.24-1:2009, A.4.2 (initial sequence) and A.4.3 (MSB rollover sequence): the last six digits of the
# KSN, the transaction key, the PIN block, the MAC of the request and that of the response.
TRANSACTIONS = """
    E00001 042666B49184CFA368DE9628D0397BC9 1B9C1845EB993A7A 9CCC7817 20364223
    E00002 C46551CEF9FD24B0AA9AD834130D3BC7 10A01C8D02C69107 F608A9BC D1FCA6BE
    E00003 0DF3D9422ACA56E547676D07AD6BADFA 18DC07B94797B466 20B59A4F BAD4CC9C
    E00004 279C0F6AEED0BE652B2C733E1383AE91 0BC79509D5645DF7 C7BFA6CC 1EB08AEE
    E00005 5F8DC6D2C845C125508DDC048093B83F 5BC0AF22AD87B327 0202B963 5CBE3E81
    E00006 5E415CB0BAF9F03CD0C14B63FB62FF43 A16DF70AE36158D8 CF6C72E6 C60D38E8
    E00007 0C8F780B7C8B49D0AE84A9EB2A6CE660 27711C16CB257F8E B11EB0D9 053EFD39
    E00008 27F66D5244FF62E1AA6F6120EDEB4280 50E55547A5027551 3679055B 7FACA91D
    E00009 27E31064FDC565698900E2057F658E7E 536CF7F678ACFC8D 26AA23DC 37F17B8F
    E0000A 6CF2500A22507C7CC776CEADC1E33014 EDABBA23221833FE 1632621C CE038CC9
    E0000B 3E8260BA04B2D620C01482B3819A18B7 2328981C57B4BDBA 76D95CB4 27C9FA5E
    E0000C B716E1E11CF53D80726CAEE75C3A624F 038D03CC926CF286 BAD9D84D 6D2ECC6A
    E0000D E072EDF95340535FB6C581C58FBF2533 6C8AA97088B62C68 AAAFB598 7E40B492
    E0000E A80046087F5B8F245AAD95E18429084F F17C9E1D72CD4950 4EC79532 55233989
    E0000F 93DD5B956C4878472E453AAEFD32A5AA B170F6E7F7F2F64A 82500D05 AFE23CBA
    E00010 59598DCBD9BD94C094165CE453585F57 D5D9638559EF53D6 D39D3A59 9E933C88
    E00011 2B5F01F4F0CC05EA639D523231BF1BA2 D544F8CDD292C863 F094AF93 631E7B39
    E00012 9CF640F279C2AEE615F725EEEAC2CBAF 7A21BD10F36DC41D A819AF04 E93F5E27
    E00013 C3DF489FDF1153B4F03DE97C27DC4C2F 78649BD17D0DFA60 79285A17 FCE7A5A5
    E00014 658488507721B3F14737FA93F923CBD2 7E7E16EA0C31AD56 E2B2637F A10E94AA
    E00015 E161D1956A61F6D2F37AFD7F9CC3699A 72105C22EBC791E6 B2033EBD BDA3AEE1
    EFF800 F9CDFEBF4F5B1D9EB3EC12454527E176 33365F5CC6F23C35 23E3CB62 5776C376
    EFF801 5BEE92627E97825C911BF619DF72CA3B 3A86BF003F835C9D 97623632 69D1EF47
    EFF802 64CA2F8AB93F61B01620B00BF77C7301 3DB977D05C36DF3F 72608521 BF7036B7
    EFF804 35A168695B3BA83307E871C42021DD37 BA83243305712099 D86687B7 645A0A18
    EFF808 12C380FCB72ED3C26FC6079AF63F4787 B0DA04AC90A36D85 5E00713D E8D8026A
    EFF810 D8007C833A1E3C49C6889B97A68C54FF 2CF02BD9C309EEDA 1BCCF968 9623FF45
    EFF820 A9C9FF9B735FDD49591F296B0BF0FD70 9D1E2F77AEEE81C6 2F6D2191 FF864D19
    EFF840 0E3E221062CB5E03A384602783A004FA 40870B0F8BA2011C 4DA4CBAC 3CE7AD50
    EFF880 CA8225C587124DFBB87F279C0BE29727 22E340D6ABB40981 95C43BC2 73D03F0B
    EFF900 906AAC1751D4971A144D52C76C6E1F97 1A4C10AFBA03A430 D6BEAA71 5D461B71
    EFFA00 2B9E2CE7C2750337E10B54D2989EA6AF 849763B43E5F9CFF 93930C9F 531DA5F9
    EFFC00 F9430DF975082491C77BE4EF4FDB91EE DEFC6F09F8927B71 2917C6EF AA8D2DA6
    F00000 AA4D58DB653EC74A48C75F2F047DD2B5 73EC88AD0AC5830E 7DFA9315 1444BEC3
"""
# Source: ANSI X9.24-1:2009, A.4.2: the encrypted request.
REQUESTS = """
    E00001 FC0D53B7EA1FDA9EE68AAF2E70D9B9506229BE2AA993F04F
    E00002 A2B4E70F846E63D68775B7215EB4563DFD3037244C61CC13
    E00003 BD751E65F10E75B6C1D5B1D283496A36C2DE21D993C387A7
    E00004 1118F50947441BBDA3C8C70220021A12EC31CC473F7215F4
    E00005 9FD7BD1EC28845ACA93367A9DA9317BD555C6B33AE22D365
    E00006 DC526613AD9095C1CEC60C41B7686ED606AC1AA2F4F54912
    E00007 24700BD6F17751531F2A16CE2AF7731101E6F87839C67244
    E00008 5F6584DEAFC51B48A239B51C2DACA97176C01D9CA8EDC33C
    E00009 7CB9080923ED4D7D8D1B8A2849331684CC910522023BE537
    E0000A C221F5A8CA5DA909BE04938E0FB8DFCFB30ED0D62B590663
    E0000B 98A271C13E4AEE80C6343867F2F0F6C55E8B7E5645866A0B
    E0000C 273CBE2F275B1C29D53F3C01A24DEC73F92C3BE219FFCB91
    E0000D 7290CB9D6F6E35A9B8A34C590A93696F8FE0137A8558884C
    E0000E 48207931E5F6E5E3E02E7E1D7BED4E3232FCA67E66A31F61
    E0000F 166246602B1255114A4012513B0DD4A9E19E82C945860C55
    E00010 53EDA44BDBCA037B2D3FEAEBAF73499336767BD1D0D09679
    E00011 086F3F46238B99AFB35DA42029675EE1FAB1C606307B35FB
    E00012 270439430E60BFC600FE3DC7E7AD8C72D22D5284EC676EF2
    E00013 2FEAE132FA0E46B4ABF55A87477AFA907E598868BCC236DA
    E00014 A16A61328E36A21858B5FBFBE7BAF7985F5C54F5B8C12298
    E00015 42A9342FD5C1ACD20E137950A7368D2BBE884275B7906918
"""


def ksn_of(last: str) -> bytes:
    return bytes.fromhex(DEVICE + last)


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.split("\n") if line]


def test_initial_key() -> None:
    # Source: ANSI X9.24-1:2009, A.4: initially loaded PIN entry device key.
    for counter in ("E00000", "E00001", "FFFFFF"):
        assert initial_key(BDK, ksn_of(counter)) == INITIAL_KEY
    assert initial_key(BDK, ksn_of("000001")) != INITIAL_KEY


def test_the_mask_is_that_of_the_standard() -> None:
    # Source: ANSI X9.24-1:2009, A.6.
    assert DUKPT_MASK.hex().upper() == "C0C0C0C000000000C0C0C0C000000000"


@pytest.mark.parametrize("row", rows(TRANSACTIONS), ids=lambda row: row[0])
def test_transactions(row: list[str]) -> None:
    last, key, block, request, response = row
    ksn = ksn_of(last)
    assert transaction_key(INITIAL_KEY, ksn).hex().upper() == key
    assert seal_pin(0, PIN, PAN, pin_key(BDK, ksn), bytes).hex().upper() == block
    assert open_pin(0, bytes.fromhex(block), PAN, device_pin_key(INITIAL_KEY, ksn)) == PIN
    assert retail_mac(mac_key(BDK, ksn), DATA)[:4].hex().upper() == request
    assert retail_mac(mac_key(BDK, ksn, response=True), DATA)[:4].hex().upper() == response


@pytest.mark.parametrize("row", rows(REQUESTS), ids=lambda row: row[0])
def test_data_keys(row: list[str]) -> None:
    last, encrypted = row
    assert data_key(BDK, ksn_of(last)).encrypt_cbc(DATA.ljust(24, b"\0")).hex().upper() == encrypted


def test_data_key_of_a_response() -> None:
    # Source: moov-io/dukpt, the response of A.4.2's first transaction.
    encrypted = data_key(BDK, ksn_of("E00001"), response=True).encrypt_cbc(DATA.ljust(24, b"\0"))
    assert encrypted.hex().upper() == "1FCC89AF66222F27B903898BB2BC8589CDBFDE5EC6AFCC25"


def test_the_counter_goes_on_as_in_the_tables() -> None:
    lasts = [row[0] for row in rows(TRANSACTIONS)]
    first = next_ksn(ksn_of("E00000"))
    for last in lasts[:21]:
        assert first == ksn_of(last)
        first = next_ksn(first)
    second = ksn_of("EFF800")
    for last in lasts[21:]:
        assert second == ksn_of(last)
        second = next_ksn(second)


@given(bdk=st.binary(min_size=16, max_size=16), ksn=st.binary(min_size=10, max_size=10))
def test_the_initial_key_is_that_of_psec_ciphers(bdk: bytes, ksn: bytes) -> None:
    register = ksn[:7] + bytes([ksn[7] & 0xE0])
    masked = bytes(a ^ b for a, b in zip(bdk, bytes.fromhex("C0C0C0C000000000") * 2, strict=True))
    left, right = (psec.des.encrypt_tdes_ecb(key, register) for key in (bdk, masked))
    assert initial_key(ClearTdesKey(bdk), ksn) == left + right


@given(counter=st.integers(1, LAST_COUNTER).filter(lambda value: value.bit_count() <= 10))
def test_device_and_host_have_the_same_keys_and_each_transaction_another(counter: int) -> None:
    ksn = ((int.from_bytes(ksn_of("E00000"), "big")) | counter).to_bytes(10, "big")
    assert check_counter(ksn) == counter
    block = encrypt_pin_block(PIN, PAN, bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    ciphertext = device_pin_key(INITIAL_KEY, ksn).encrypt(block)
    assert pin_key(BDK, ksn).decrypt(ciphertext) == block
    if counter < LAST_COUNTER:
        assert pin_key(BDK, next_ksn(ksn)).decrypt(ciphertext) != block


@pytest.mark.parametrize("length", [0, 8, 9, 11, 12])
def test_key_serial_numbers_of_another_length(length: int) -> None:
    ksn = bytes(range(1, length + 1))
    for work in (check_counter, next_ksn, lambda value: initial_key(BDK, value), lambda value: pin_key(BDK, value)):
        with pytest.raises(ValueError, match="has 10 bytes"):
            work(ksn)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("E00000", "zero"),
        ("E007FF", "more than 10 one bits"),
        ("EFF7FF", "more than 10 one bits"),
        ("FFF801", "exhausted"),
        ("FFFFFF", "exhausted"),
    ],
)
def test_counters_that_no_device_uses(last: str, reason: str) -> None:
    for work in (pin_key, mac_key, data_key):
        with pytest.raises(ValueError, match=reason):
            work(BDK, ksn_of(last))
    with pytest.raises(ValueError, match=reason):
        transaction_key(INITIAL_KEY, ksn_of(last))


def test_the_last_counter_is_the_last() -> None:
    assert check_counter(ksn_of("FFF800")) == LAST_COUNTER
    assert next_ksn(ksn_of("FFF400")) == ksn_of("FFF800")
    for last in ("FFF800", "FFFFFF"):
        with pytest.raises(ValueError, match="exhausted"):
            next_ksn(ksn_of(last))


def test_initial_keys_of_another_length() -> None:
    for length in (0, 8, 24):
        with pytest.raises(ValueError, match="16 bytes"):
            transaction_key(bytes(length), ksn_of("E00001"))


def test_a_base_derivation_key_of_another_length_is_refused() -> None:
    for length in (8, 24):
        with pytest.raises(ValueError, match="mask"):
            pin_key(ClearTdesKey(bytes(range(length))), ksn_of("E00001"))
