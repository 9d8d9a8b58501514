%% @doc What Python code prints for I/O devices other than `user': for the group leaders of processes
%% that made requests with `output => caller'.
%%
%% A device is asked by a message, as `io' does it, and not waited for: one that is slow or stuck
%% holds nothing up but what is printed to it. Python may have a number of bytes under way to each
%% device, and learns what that has taken. What is printed to a device that has ended is lost.
%% @hidden
-module(py_devices).

-include("py_worker.hrl").

-export([new/0, print/3, message/3]).
-export_type([devices/0]).

%% Python is sent what was taken in steps of this many bytes, of 1 MiB that may be under way.
-define(CREDIT_BYTES, 64 * 1024).

-record(device, {
    monitor :: reference(),
    %% What it was asked to print and has not answered yet: bytes, by request.
    asked = #{} :: #{reference() => non_neg_integer()},
    taken = 0 :: non_neg_integer()
}).

-record(devices, {
    devices = #{} :: #{address() => #device{}},
    asked = #{} :: #{reference() => address()}
}).
-type address() :: binary().
%% The bytes that Python has for a device. They hold the node's name, which may have changed since.
-opaque devices() :: #devices{}.

-spec new() -> devices().
new() ->
    #devices{}.

%% @doc Hands text to a device. The process that calls this gets the answer, for {@link message/3}.
-spec print({pid(), address()}, binary(), devices()) -> devices().
print({Pid, Address}, Text, #devices{devices = Devices, asked = Asked}) ->
    Device =
        case Devices of
            #{Address := Known} -> Known;
            #{} -> #device{monitor = erlang:monitor(process, Pid)}
        end,
    Ref = make_ref(),
    Pid ! {io_request, self(), Ref, {put_chars, unicode, Text}},
    Under = (Device#device.asked)#{Ref => byte_size(Text)},
    #devices{devices = Devices#{Address => Device#device{asked = Under}}, asked = Asked#{Ref => Address}}.

%% @doc A message that may be of a device.
-spec message(term(), #worker{}, devices()) -> devices() | unrelated.
message({io_reply, Ref, _Result}, Worker, D = #devices{devices = Devices, asked = Asked}) ->
    case maps:take(Ref, Asked) of
        {Address, Rest} ->
            Device = #device{asked = Under, taken = Taken} = maps:get(Address, Devices),
            {Bytes, Others} = maps:take(Ref, Under),
            New = acknowledged(Worker, Address, Device#device{asked = Others, taken = Taken + Bytes}),
            D#devices{devices = Devices#{Address := New}, asked = Rest};
        error ->
            D
    end;
message({'DOWN', Monitor, process, _, _}, Worker, D = #devices{devices = Devices, asked = Asked}) ->
    case [Found || Found = {_, #device{monitor = M}} <- maps:to_list(Devices), M =:= Monitor] of
        [{Address, #device{asked = Under, taken = Taken}}] ->
            ack(Worker, Address, lists:sum([Taken | maps:values(Under)])),
            D#devices{devices = maps:remove(Address, Devices), asked = maps:without(maps:keys(Under), Asked)};
        [] ->
            unrelated
    end;
message(_Other, _Worker, _Devices) ->
    unrelated.

acknowledged(Worker, Address, Device = #device{taken = Taken}) when Taken >= ?CREDIT_BYTES ->
    ack(Worker, Address, Taken),
    Device#device{taken = 0};
acknowledged(_Worker, _Address, Device) ->
    Device.

ack(_Worker, _Address, 0) ->
    ok;
ack(Worker, Address, Bytes) ->
    _ = py_port:write(Worker, py_frame:output_ack(Address, Bytes)),
    ok.
