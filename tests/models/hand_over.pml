/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-over of a device between servers that die (broker/recovery.h, protocol/vmm_control.h): a server dies at any
 * moment, the VMM loses contact with one that lives, a successor is refused; messages and deaths overtake each other.
 * Once that has stopped, the device must be served: the broker says so, and the VMM is connected to the living server.
 */
#define DEATHS   3
#define LOSSES   1
#define REFUSALS 1

mtype = {LOST, RESUMED, REFUSED}
mtype:phase = {SERVING, STARTING, HANDING_OVER}

/* the server's process; generations tell successors apart */
byte generation = 0
bool alive = true, ready = true

/* the VMM */
bool connected = true
byte vmm_generation = 0

/* the broker */
mtype:phase phase = SERVING
byte serial = 0

chan deaths = [4] of {byte}
chan readies = [4] of {byte}
chan to_vmm = [4] of {byte, byte}     /* serial, generation behind the socket */
chan to_broker = [4] of {mtype, byte} /* event, serial */

inline kill()
{
    atomic {
        if
        :: alive -> alive = false; deaths!generation
        :: else
        fi
    }
}

active proctype environment()
{
    byte count = 0
    do
    :: count < DEATHS -> atomic { alive -> alive = false; deaths!generation; count++ }
    :: break
    od
}

active proctype server()
{
end:
    do
    :: atomic { alive && !ready -> ready = true; readies!generation }
    od
}

active proctype vmm()
{
    byte current = 0, losses = 0, refusals = 0
end:
    do
    :: atomic { connected && !(alive && generation == vmm_generation) -> connected = false; to_broker!LOST(current) }
    :: atomic { connected && losses < LOSSES -> losses++; connected = false; to_broker!LOST(current) }
    :: to_vmm?current(vmm_generation) ->
        if
        :: atomic { alive && generation == vmm_generation -> connected = true; to_broker!RESUMED(current) }
        :: atomic { refusals < REFUSALS -> refusals++; connected = false; to_broker!REFUSED(current) }
        :: atomic { !(alive && generation == vmm_generation) -> connected = false; to_broker!REFUSED(current) }
        fi
    od
}

active proctype broker()
{
    byte which
    mtype event
end:
    do
    :: deaths?which ->
        assert(which == generation && !alive)
        d_step { generation++; alive = true; ready = false; phase = STARTING }
    :: readies?which ->
        if
        :: which == generation && alive && phase == STARTING ->
            serial++
            phase = HANDING_OVER
            to_vmm!serial(which)
        :: else
        fi
    :: to_broker?event(which) ->
        if
#ifndef WITHOUT_SERIALS
        :: which != serial -> skip
#endif
        :: else ->
            if
            :: event == RESUMED && phase == HANDING_OVER -> phase = SERVING
            :: event == LOST && phase == SERVING -> kill()
            :: event == REFUSED && phase == HANDING_OVER -> kill()
            :: else
            fi
        fi
    od
}

/* Nobody has anything left to do. */
active proctype verdict()
{
    timeout -> assert(phase == SERVING && alive && connected && vmm_generation == generation)
}
