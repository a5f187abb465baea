"""Elements that a later version has in another shape: read from it into 1987, and written to it; pure.

`messages.translation` has the tables of which function is for which element. A reader gets the value of one element
and puts what it means in 1987; a writer gets the canonical value. Values of the later version beyond that are kept
under 1000 and their number, and used again where they still apply.

Source: ISO 8583:1987 4.4, ISO 8583:1993 4.3 and ISO 8583-1:2003 6.2 (data elements); inferred rules say so.
"""
