%% @doc The signs of life of a Python process, and what to conclude from them.
%% Its worker calls this at every tick and for every answer to a ping; nothing
%% here sends or waits.
%%
%% That a process is busy is no reason to end it. It is lost when it is gone
%% and the port did not say so (`exit_status' can be lost, and comes late
%% where a child holds the pipe open). It is deaf when it neither sends nor
%% answers nor uses any processor time, tick after tick, although it was asked:
%% whoever waits for the interpreter lock uses some. So half a frame, with
%% silence behind it, ends the worker and not only the patience of its callers.
-module(py_liveness).

-export([new/1, heard/1, tick/2, answered/3]).
-export_type([pulse/0, load/0]).

%% Requests in flight, and how many of them are streams.
-type load() :: {integer(), integer()}.

%% Ticks of silence, without any processor time, until a process is taken for
%% deaf. A larger number leaves callers waiting; a smaller one takes a machine
%% that is suspended or swaps for a broken worker.
-define(SILENT_TICKS, 6).

-record(pulse, {
    process :: py_os:process() | undefined,
    is_heard = true :: boolean(),
    %% The load when a ping was sent that is not answered.
    asked = none :: none | load(),
    activity = unknown :: stopped | unknown | non_neg_integer(),
    silent = 0 :: non_neg_integer(),
    %% How much more was counted than Python knows of, at the last answer.
    surplus = {0, 0} :: load()
}).
-opaque pulse() :: #pulse{}.

%% @doc For a process that was just started.
-spec new(py_os:process() | undefined) -> pulse().
new(Process) ->
    #pulse{process = Process}.

%% @doc It sent something.
-spec heard(pulse()) -> pulse().
heard(P = #pulse{is_heard = true}) -> P;
heard(P) -> P#pulse{is_heard = true}.

%% @doc Some time has passed. `ping' asks for a ping to be sent; `lost' and
%% `deaf' are the ends of the worker.
-spec tick(load(), pulse()) -> {quiet | ping | lost | deaf, pulse()}.
tick(_Load, P = #pulse{is_heard = true}) ->
    {quiet, P#pulse{is_heard = false, asked = none, silent = 0, surplus = {0, 0}}};
tick(Load, P = #pulse{process = Process}) ->
    case py_os:activity(Process) of
        gone -> {lost, P};
        Activity -> silence(Load, Activity, P)
    end.

silence({0, 0}, Activity, P = #pulse{asked = none}) ->
    {quiet, P#pulse{activity = Activity}};
silence(Load, Activity, P = #pulse{asked = none}) ->
    {ping, P#pulse{asked = Load, activity = Activity, silent = 0}};
silence(_Load, Activity, P = #pulse{activity = Activity, silent = Silent}) when is_integer(Activity) ->
    case Silent + 1 of
        ?SILENT_TICKS -> {deaf, P};
        More -> {quiet, P#pulse{silent = More}}
    end;
silence(_Load, Activity, P) ->
    {quiet, P#pulse{activity = Activity, silent = 0}}.

%% @doc The ping was answered: Python knows of `Known' requests. Returns by how
%% much the counters are to come down: whoever is killed between counting a
%% request and writing it leaves one that Python never heard of. Only what is
%% found twice in a row, with nothing counted or heard in between, is believed.
-spec answered(load(), load(), pulse()) -> {load(), pulse()}.
answered(Known, Load, P = #pulse{asked = Load, is_heard = false, surplus = Before}) ->
    Next = P#pulse{asked = none, silent = 0},
    case minus(Load, Known) of
        {0, 0} -> {{0, 0}, Next#pulse{surplus = {0, 0}}};
        Before -> {Before, Next#pulse{surplus = {0, 0}}};
        Surplus -> {{0, 0}, Next#pulse{surplus = Surplus}}
    end;
answered(_Known, _Load, P) ->
    {{0, 0}, P#pulse{asked = none, silent = 0, surplus = {0, 0}}}.

minus({A, B}, {C, D}) -> {max(0, A - C), max(0, B - D)}.
