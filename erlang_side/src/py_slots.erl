%% @doc The workers of a pool as its manager knows them: those that start, those that take work,
%% and those that take nothing new and leave. Nothing here sends or waits.
%% @hidden
-module(py_slots).

-include("py_worker.hrl").

-export([add/4, ready/4, run/3, leaving/3, take/2]).
-export([find/2, is_ready/2, is_starting/1, oldest/2, ready/1, requests/1, staying/1, up_to_date/2]).
-export_type([slots/0, slot/0, ended/0]).

-record(slot, {
    %% How many starts before this one failed.
    attempt :: non_neg_integer(),
    %% The journal's number up to which it ran.
    number :: non_neg_integer(),
    %% What others need to know of it, once it is ready, and when that was.
    worker = starting :: starting | {leaving, #worker{}} | #worker{},
    since :: integer(),
    %% For log records about its end.
    about = #{} :: #{atom() => term()},
    %% Whether it leaves because another has taken its place.
    is_recycled = false :: boolean()
}).
-opaque slot() :: #slot{}.
-type slots() :: #{pid() => slot()}.
-type ended() :: #{
    was := starting | ready | leaving | recycled,
    attempt := non_neg_integer(),
    %% Milliseconds since it was ready, or was started.
    age := non_neg_integer(),
    about := #{atom() => term()}
}.

%% @doc A worker starts, with the journal up to that number.
-spec add(pid(), Attempt :: non_neg_integer(), Number :: non_neg_integer(), slots()) -> slots().
add(Pid, Attempt, Number, Slots) ->
    Slots#{Pid => #slot{attempt = Attempt, number = Number, since = py_clock:now_ms()}}.

%% @doc It is ready: the journal's number up to which it ran, and how long it took, in milliseconds.
-spec ready(pid(), #worker{}, About :: #{atom() => term()}, slots()) -> {non_neg_integer(), non_neg_integer(), slots()}.
ready(Pid, Worker, About, Slots) ->
    Slot = #slot{number = Number, since = Since} = maps:get(Pid, Slots),
    Now = py_clock:now_ms(),
    {Number, Now - Since, Slots#{Pid := Slot#slot{worker = Worker, since = Now, about = About}}}.

%% @doc These have run the journal up to that number, or run it now.
-spec run([pid()], Number :: non_neg_integer(), slots()) -> slots().
run(Pids, Number, Slots) ->
    lists:foldl(
        fun(Pid, S) -> maps:update_with(Pid, fun(Slot) -> Slot#slot{number = Number} end, S) end, Slots, Pids
    ).

%% @doc It takes nothing new: by a signal, or because another has taken its place.
-spec leaving(pid(), signal | recycled, slots()) -> slots().
leaving(Pid, Why, Slots) ->
    Slot = #slot{worker = Worker} = maps:get(Pid, Slots),
    Slots#{Pid := Slot#slot{worker = {leaving, Worker}, is_recycled = Why =:= recycled}}.

%% @doc It has ended.
-spec take(pid(), slots()) -> {ended(), slots()}.
take(Pid, Slots) ->
    {Slot = #slot{attempt = Attempt, since = Since, about = About}, Rest} = maps:take(Pid, Slots),
    {#{was => was(Slot), attempt => Attempt, age => py_clock:now_ms() - Since, about => About}, Rest}.

was(#slot{worker = starting}) -> starting;
was(#slot{worker = {leaving, _}, is_recycled = true}) -> recycled;
was(#slot{worker = {leaving, _}}) -> leaving;
was(#slot{worker = #worker{}}) -> ready.

%% @doc A worker that has been ready, and up to which number it ran.
-spec find(pid(), slots()) -> {ready | leaving, #worker{}, Number :: non_neg_integer()} | none.
find(Pid, Slots) ->
    case Slots of
        #{Pid := #slot{worker = Worker = #worker{}, number = Number}} -> {ready, Worker, Number};
        #{Pid := #slot{worker = {leaving, Worker}, number = Number}} -> {leaving, Worker, Number};
        #{} -> none
    end.

%% @doc Whether it takes work, or would if it had run all of the journal.
-spec is_ready(pid(), slots()) -> boolean().
is_ready(Pid, Slots) ->
    case Slots of
        #{Pid := #slot{worker = #worker{}}} -> true;
        #{} -> false
    end.

%% @doc Whether any of them starts.
-spec is_starting(slots()) -> boolean().
is_starting(Slots) ->
    lists:any(fun(#slot{worker = Worker}) -> Worker =:= starting end, maps:values(Slots)).

-spec ready(slots()) -> #{pid() => #worker{}}.
ready(Slots) ->
    maps:from_list([{Pid, W} || {Pid, #slot{worker = W = #worker{}}} <- maps:to_list(Slots)]).

%% @doc Those that have run the journal up to its last number.
-spec up_to_date(Last :: non_neg_integer(), slots()) -> [#worker{}].
up_to_date(Last, Slots) ->
    [W || {_, #slot{worker = W = #worker{}, number = N}} <- maps:to_list(Slots), N =:= Last].

%% @doc The one of these that was ready first.
-spec oldest(Last :: non_neg_integer(), slots()) -> pid().
oldest(Last, Slots) ->
    Ages = [{Slot#slot.since, Pid} || {Pid, Slot = #slot{worker = #worker{}, number = N}} <- maps:to_list(Slots), N =:= Last],
    element(2, hd(lists:keysort(1, Ages))).

%% @doc How many start or take work.
-spec staying(slots()) -> non_neg_integer().
staying(Slots) ->
    length([W || #slot{worker = W} <- maps:values(Slots), W =:= starting orelse is_record(W, worker)]).

%% @doc How many requests run, in workers that leave, too.
-spec requests(slots()) -> non_neg_integer().
requests(Slots) ->
    lists:sum([max(0, py_load:requests(running(Worker))) || #slot{worker = Worker} <- maps:values(Slots), Worker =/= starting]).

running({leaving, Worker}) -> Worker;
running(Worker) -> Worker.
