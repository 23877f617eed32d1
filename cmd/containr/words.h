// The names of short commands: which of eight bytes count, and what they are.
DATA ·words+0(SB)/8, $0xffffffff
DATA ·words+8(SB)/8, $"run\x00\x00\x00\x00\x00"
DATA ·words+16(SB)/8, $0xffffffffff
DATA ·words+24(SB)/8, $"exec\x00\x00\x00\x00"
DATA ·words+32(SB)/8, $0xffffffffffff
DATA ·words+40(SB)/8, $"start\x00\x00\x00"
DATA ·words+48(SB)/8, $0xffffffffffffff
DATA ·words+56(SB)/8, $"create\x00\x00"
DATA ·words+64(SB)/8, $0xffffffffffffffff
DATA ·words+72(SB)/8, $"cleanup\x00"
DATA ·words+80(SB)/8, $0
DATA ·words+88(SB)/8, $0
GLOBL ·words(SB), NOPTR|RODATA, $96
