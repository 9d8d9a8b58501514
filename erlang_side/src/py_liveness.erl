%% @doc The signs of life of a Python process, and what to conclude from them.
%% Its worker calls this at every tick and for every answer to a ping; nothing
%% here sends or waits.
%%
%% That a process is busy is no reason to end it. It has ended, with `exit_unknown',
%% when it is gone and the port did not report it (`exit_status' can be lost, and
%% comes late if a child holds the pipe open). With work, it is deaf while it neither sends nor
%% answers a ping: C code may hold the interpreter lock, the worker may have stopped in the middle of
%% a frame. That is `unresponsive' when the process is stopped by a signal,
%% tick after tick, or when it lasts for longer than the pool's option `deaf_after' allows.
%% @hidden
-module(py_liveness).

-export([new/2, received/1, ended/2, uncertain/1, tick/2, pong/2, is_silent/1]).
-export_type([liveness/0, load/0]).

%% Requests in flight, and how many of them are streams.
-type load() :: {integer(), integer()}.

%% Ticks until a process that is deaf and stopped counts as unresponsive, and until the log says that one
%% is deaf. A larger number leaves callers waiting; a smaller one replaces a worker
%% that somebody stops for a moment.
-define(SILENT_TICKS, 6).

-record(liveness, {
    process :: py_os:process() | undefined,
    %% For how many ticks it may be deaf.
    deaf_ticks :: pos_integer() | infinity,
    %% Whether it has sent anything since the last tick.
    has_sent = true :: boolean(),
    %% The load when a ping was sent that is not answered.
    pinged = none :: none | load(),
    %% Ticks since the ping that have found it silent, and how many of the last of them stopped.
    silent = 0 :: non_neg_integer(),
    stopped = 0 :: non_neg_integer(),
    %% What has ended since that ping.
    ended = {0, 0} :: load(),
    %% How much more was counted than Python knows of, at the last answer.
    surplus = {0, 0} :: load()
}).
-opaque liveness() :: #liveness{}.

%% @doc For a process that was just started, and is not deaf for as many ticks.
-spec new(py_os:process() | undefined, pos_integer() | infinity) -> liveness().
new(Process, DeafTicks) ->
    #liveness{process = Process, deaf_ticks = DeafTicks}.

%% @doc It sent something.
-spec received(liveness()) -> liveness().
received(L = #liveness{has_sent = true}) -> L;
received(L) -> L#liveness{has_sent = true}.

%% @doc Some time has passed. `ping' asks for a ping to be sent; `deaf' is worth a word in the log; `exit_unknown'
%% and `unresponsive' are reasons to end the worker.
-spec tick(load(), liveness()) -> {quiet | ping | deaf | exit_unknown | unresponsive, liveness()}.
tick({0, 0}, L = #liveness{has_sent = true}) ->
    {quiet, L#liveness{has_sent = false, pinged = none, silent = 0, surplus = {0, 0}}};
tick(Load, L = #liveness{has_sent = true, pinged = none}) ->
    %% No sign of life is wanted of it, but its numbers.
    {ping, pinged(Load, L#liveness{has_sent = false})};
tick(_Load, L = #liveness{has_sent = true}) ->
    {quiet, L#liveness{has_sent = false, silent = 0, stopped = 0}};
tick(Load, L = #liveness{process = Process}) ->
    case state(Process) of
        gone -> {exit_unknown, L};
        State -> silence(Load, State, L)
    end.

state(Process) ->
    case py_os:state(Process) of
        unknown ->
            case py_reaper:is_gone(Process) of
                true -> gone;
                false -> unknown
            end;
        State ->
            State
    end.

silence({0, 0}, _State, L = #liveness{pinged = none}) ->
    {quiet, L};
silence(Load, _State, L = #liveness{pinged = none}) ->
    {ping, pinged(Load, L)};
silence(_Load, State, L = #liveness{silent = Before, stopped = StoppedBefore, deaf_ticks = DeafTicks}) ->
    Silent = Before + 1,
    Stopped =
        case State of
            stopped -> StoppedBefore + 1;
            _ -> 0
        end,
    NewL = L#liveness{silent = Silent, stopped = Stopped},
    if
        Stopped >= ?SILENT_TICKS; Silent >= DeafTicks -> {unresponsive, NewL};
        Silent =:= ?SILENT_TICKS -> {deaf, NewL};
        true -> {quiet, NewL}
    end.

pinged(Load, L) ->
    L#liveness{pinged = Load, ended = {0, 0}, silent = 0, stopped = 0}.

%% @doc Requests have ended.
-spec ended(load(), liveness()) -> liveness().
ended(_Ended, L = #liveness{pinged = none}) ->
    L;
ended({Requests, Streams}, L = #liveness{ended = {R, S}}) ->
    L#liveness{ended = {R + Requests, S + Streams}}.

%% @doc The numbers of the ping that is under way say nothing.
-spec uncertain(liveness()) -> liveness().
uncertain(L = #liveness{pinged = Pinged}) ->
    ended(Pinged, L).

%% @doc Whether a ping was not answered for a whole tick.
-spec is_silent(liveness()) -> boolean().
is_silent(#liveness{has_sent = false, pinged = Pinged, silent = Silent}) -> Pinged =/= none andalso Silent > 0;
is_silent(_) -> false.

%% @doc The ping was answered: Python knows of `Known' requests. Returns how much to
%% subtract from the counters: a caller that is killed between counting a request and
%% writing it leaves one that Python never gets.
%%
%% Of those that were counted at the ping, Python knew, or had ended and said so before this
%% answer, all that were written by then. What came later can only make the difference
%% smaller. What is left was not written: it is on its way, or lost. Only as much as is found at two answers in
%% a row, a tick apart, is subtracted.
-spec pong(load(), liveness()) -> {load(), liveness()}.
pong(_Known, L = #liveness{pinged = none}) ->
    {{0, 0}, L#liveness{silent = 0}};
pong(Known, L = #liveness{pinged = Load, ended = Ended, surplus = Before}) ->
    Surplus = minus(minus(Load, Ended), Known),
    Lost = least(Surplus, Before),
    {Lost, L#liveness{pinged = none, silent = 0, surplus = minus(Surplus, Lost)}}.

least({A, B}, {C, D}) -> {min(A, C), min(B, D)}.

minus({A, B}, {C, D}) -> {max(0, A - C), max(0, B - D)}.
