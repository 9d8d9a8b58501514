%% @doc Signals to processes of the operating system. Erlang sends none, and a program that is
%% started for each would be missing just when the node may open no more files or ports. So a shell
%% waits for orders, from the start: `kill' is part of it, and needs nothing new.
%%
%% It belongs to the process that calls this, which traps exits.
%% @hidden
-module(py_signal).

-export([open/0, send/3]).
-export_type([answer/0, shell/0, target/0]).

-type shell() :: port() | none.
-type target() :: pos_integer() | {group, pos_integer()}.
-type answer() :: ok | failed | unknown.
%% `unknown' if there is no shell to ask.

%% Signals to all of a terminal or a service are not for it. It ends with the end of its input.
-define(SCRIPT,
    "trap '' HUP INT QUIT TERM TSTP; "
    "while read -r order; do kill $order 2>/dev/null && echo ok || echo failed; done"
).

%% The longest wait for an answer. A larger number delays whoever sends while the machine is
%% overloaded, a smaller one takes a shell that is slow for one that is gone.
-define(ANSWER_MS, 1000).

%% @doc Starts the shell, if the node can.
-spec open() -> shell().
open() ->
    try
        open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", ?SCRIPT]}, {line, 80}, binary, hide])
    catch
        error:_ -> none
    end.

%% @doc Sends a signal; 0 asks whether there is such a process. The next call needs the shell that
%% is returned: one that has ended is started again.
-spec send(non_neg_integer(), [target(), ...], shell()) -> {answer(), shell()}.
send(Signal, Targets, Shell) ->
    Order = ["-", integer_to_list(Signal), [[" ", target(Target)] || Target <- Targets], "\n"],
    case order(Order, Shell) of
        unknown ->
            New = open(),
            {order(Order, New), New};
        Answer ->
            {Answer, Shell}
    end.

target({group, Pid}) -> ["-", integer_to_list(Pid)];
target(Pid) -> integer_to_list(Pid).

order(_Order, none) ->
    unknown;
order(Order, Shell) ->
    try port_command(Shell, Order) of
        true -> answer(Shell)
    catch
        error:badarg -> unknown
    end.

answer(Shell) ->
    receive
        {Shell, {data, {eol, <<"ok">>}}} -> ok;
        {Shell, {data, {eol, <<"failed">>}}} -> failed;
        {'EXIT', Shell, _} -> unknown
    after ?ANSWER_MS ->
        %% What it answers later is for no order.
        try port_close(Shell) of
            true -> unknown
        catch
            error:badarg -> unknown
        end
    end.
