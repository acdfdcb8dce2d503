"""The message types of the Unitree G1 as CycloneDDS dataclasses, one file per IDL module.

Every 8-bit field is `types.byte`, not `types.uint8`: CycloneDDS 0.10.2, which the robot runs, describes a `uint8` as
TK_BYTE, and a 0.10.2 process that receives version 11's TK_UINT8 dies of it (cyclonedds#1554, measured). With `byte`
the description is equal to 0.10.2's to the bit, and `tests/test_real_idl.py` holds it there. Field names and their
order are part of that description; class names are not, so they go without the wire's trailing underscore.
"""
