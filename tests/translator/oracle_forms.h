/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the oracle executes.
 *
 * A *form* is one kind of instruction: what Zydis' tables tell apart by encoding, opcode, operand sizes and kinds (register
 * or memory), address size, LOCK and REP, for one kind of code. form_catalogue() finds all of them by decoding every
 * combination of opcode, map, prefixes, ModRM and VEX fields; nobody lists them by hand. Of those, the catalogue has what
 * both this host and the translator have (form_status()).
 *
 * An *instruction* is one random encoding of a form: registers, addressing, immediates, redundant prefixes.
 *
 * What cannot be had from Zydis is in oracle_rules.c: results that the architecture leaves open, states that an
 * instruction needs to do something interesting, and what is not tested, with the reason.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "tests/translator/oracle.h"
#include "tests/translator/oracle_random.h"
#include "translator/x86/features.h"

/* --- rules --------------------------------------------------------------------------------------------------- */

/* Flags (and results) that are open, beyond what Zydis' tables say. */
enum rule_undefined {
    UNDEF_TABLE, /* what Zydis says */
    UNDEF_NONE, UNDEF_AF, UNDEF_SHIFT, UNDEF_ROTATE, UNDEF_DOUBLE_SHIFT, UNDEF_MUL, UNDEF_ALL, UNDEF_BIT, UNDEF_SCAN,
    UNDEF_COUNT,
};
enum rule_flag {
    RULE_DIVIDE   = 1 << 0,  /* small dividends */
    RULE_CMPXCHG  = 1 << 1,  /* accumulator often equal to the operand */
    RULE_BITS     = 1 << 2,  /* a register is a bit offset into memory: keep it near */
    RULE_COUNT    = 1 << 3,  /* CL or ECX is a count: mostly small */
    RULE_FRAME    = 1 << 4,  /* rBP points to the stack too */
    RULE_ENTER    = 1 << 5,  /* small immediates */
    RULE_ENV      = 1 << 6,  /* image of an x87 environment in memory */
    RULE_FXIMAGE  = 1 << 7,  /* FXSAVE image */
    RULE_XIMAGE   = 1 << 8,  /* XSAVE image, and EDX:EAX of components that the guest has */
    RULE_SELECTOR = 1 << 9,  /* operand is a selector */
    RULE_FLAGS    = 1 << 10, /* loads EFLAGS from the stack: never TF */
    RULE_RETURN   = 1 << 11, /* return address on the stack */
    RULE_FAR      = 1 << 12, /* … or pointer, with a selector */
    RULE_VENDOR   = 1 << 13, /* results differ between vendors in corner cases */
    RULE_ANY_BYTE = 1 << 14, /* which of its bytes faults first, and what was done before, is the processor's choice */
    RULE_MXCSR    = 1 << 15, /* loads MXCSR */
    RULE_GATHER   = 1 << 16, /* vector of indices */
    RULE_ALONE    = 1 << 17, /* not in sequences */
    RULE_LAZY     = 1 << 18, /* looks at its segment only when it writes at last */
    RULE_GOOD     = 1 << 19, /* memory operands only where nothing faults: whether unselected bytes do is open */
};
struct rule {
    ZydisMnemonic mnemonic;
    uint8_t undefined;  /* enum rule_undefined */
    uint32_t flags;     /* enum rule_flag */
    const char *reason; /* not NULL: not tested */
};
/* Never NULL. */
const struct rule *rule_of(ZydisMnemonic mnemonic);
/* Whose instruction set extension is it? The enum x86_feature, FORM_BASE for all x86-64 processors, or FORM_FOREIGN. */
#define FORM_BASE    -1
#define FORM_FOREIGN -2 /* never offered by the translator */
int rule_feature(const ZydisDecodedInstruction *info);
/* Why the translator does not offer an instruction set extension that is FORM_FOREIGN, or NULL. */
const char *rule_foreign(ZydisISASet isa_set);

/* --- forms --------------------------------------------------------------------------------------------------- */

enum form_prefix { FORM_66 = 1, FORM_67 = 2, FORM_F3 = 4, FORM_F2 = 8, FORM_LOCK = 16 };

struct form {
    enum oracle_mode mode;
    bool vex, wide /* REX.W, VEX.W */, l /* VEX.L */;
    bool plus;        /* register in the opcode's low bits */
    bool has_modrm, memory; /* whose operand is memory */
    bool hidden_memory;     /* the stack, a string, … */
    uint8_t map;      /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A */
    uint8_t opcode;
    uint8_t prefixes; /* enum form_prefix; of VEX: pp as such */
    uint8_t reg, rm;  /* ModRM fields that are part of the opcode, else 0xff */
    bool vvvv;        /* VEX.vvvv is an operand */
    ZydisMnemonic mnemonic;
    ZydisISASet isa_set;
    const struct rule *rule;
    uint64_t key; /* what Zydis tells apart, hashed */
    char name[64];
};

enum form_status {
    FORM_RUNS,
    FORM_EXCLUDED,    /* rule->reason */
    FORM_NOT_OFFERED, /* by the translator on this host */
    FORM_NOT_HERE,    /* this host cannot execute it */
};
enum form_status form_status(const struct form *form);

struct form_list {
    struct form *items;
    unsigned count, capacity;
};
/* All forms of a mode that Zydis knows, whatever their status. -ENOMEM. */
int form_catalogue(enum oracle_mode mode, struct form_list *ret_list);
/* Also tells of all combinations that Zydis calls undefined: FORM_CODE_MAX bytes, of which some belong to the instruction. */
#define FORM_CODE_MAX 48
int form_catalogue_all(enum oracle_mode mode, struct form_list *ret_list,
                       void (*undefined)(void *opaque, const struct form *candidate, const uint8_t *code), void *opaque);
void form_list_finish(struct form_list *list);

struct insn {
    const struct form *form;
    enum oracle_mode mode;
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    uint8_t length;
    ZydisDecodedInstruction info;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};
/* Registers that memory operands use as bases, and no instruction of a sequence may change (form_encode()). */
#define INSN_BASES (1u << IR_RBX | 1u << IR_RBP | 1u << IR_RSI | 1u << IR_RDI)

/*
 * Encodes `form` at random, for the address ORACLE_INSN + `offset`. With `keep`, a mask of general registers, it changes none
 * of them and takes memory bases from INSN_BASES. False when that cannot be.
 */
bool form_encode(const struct form *form, struct random *random, unsigned offset, uint32_t keep, struct insn *ret_insn);

/* Decodes other bytes, as form_encode() does; ret_insn->form stays NULL. */
bool insn_decode(enum oracle_mode mode, const uint8_t *bytes, unsigned length, struct insn *ret_insn);
/* The key of the form that it is an encoding of. */
uint64_t insn_key(const struct insn *insn);
/* Number 0-15 of the general register that contains `reg`, or -1. */
int insn_gpr(ZydisRegister reg);
/* General registers that it changes, those implied included. */
uint32_t insn_writes(const struct insn *insn);
bool insn_has_memory(const struct insn *insn);
bool insn_is_x87(const struct insn *insn); /* MMX too */
unsigned insn_memory_operands(const struct insn *insn);
/* Bytes of its largest memory operand. */
unsigned insn_bytes(const struct insn *insn);
/* Does it jump? */
bool insn_is_branch(const struct insn *insn);

/* --- states, oracle_state.c ---------------------------------------------------------------------------------- */

/* Fills a state for the instructions of one piece of code. `*ret_address` is where the first one's memory operand is, or 0. */
void state_random(const struct insn *const *insns, unsigned count, struct random *random,
                  struct oracle_state *ret_state, uint64_t *ret_address);

/* Bits of ORACLE_FLAGS that the architecture defines after it. */
uint64_t insn_defined_flags(const struct insn *insn, const struct oracle_state *before);
