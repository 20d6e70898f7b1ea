// What the kernels of decoding share: the rows of a step.
#ifndef TINYGPT_DECODE_CUH
#define TINYGPT_DECODE_CUH

// One more token of the sequence in a slot. Rows that only fill up a step are not active: their numbers are
// 0, and nobody reads what is computed for them.
struct DecodeRow {
    u32 slot, id, position, active;
};

#endif
