%% @doc What is under way in a worker: two counters, of its requests (streams and calls) and of its
%% streams, and the mark that it takes nothing new. Who makes a request adds; the worker subtracts when
%% Python says that it has ended, so that one whose caller has gone still counts.
%%
%% What a worker has ended with stays here, too, for a request whose monitor comes when its process has
%% gone: the VM sends a monitor's signal when the process that sets it is scheduled out, which may be
%% after the request was written, and Python has ended.
%% @hidden
-module(py_load).

-include("py_worker.hrl").

-export([new/0, reserve/2, release/2, exec/1, ended/3, subtract/2]).
-export([requests/1, counts/1, drain/2, close/1]).
-export([ends/2, status/1]).
-export_type([load/0, counts/0]).

-type load() :: atomics:atomics_ref().
-type counts() :: {Requests :: integer(), Streams :: integer()}.

-define(REQUESTS, 1).
-define(STREAMS, 2).
%% 1 if it takes nothing new.
-define(DRAINING, 3).
%% What it has ended with, as a number: one more than an exit code, less than zero for a signal, or this
%% much more than the position of a term. 0 if it has not, or was killed and could not say so.
-define(STATUS, 4).
-define(TERM, 1000).
-define(TERMS, [exit_unknown, stopped, kill_after, unresponsive, bad_frame, atom_limit, killed]).

-spec new() -> load().
new() ->
    atomics:new(4, [{signed, true}]).

%% @doc Counts a request, unless the worker takes nothing new, or runs as many streams as it may. Whoever
%% drains it sets the mark first and counts then, and this is the other way round: so no request is
%% missed by both.
-spec reserve(call | stream, #worker{}) -> ok | {error, overloaded | draining}.
reserve(call, Worker = #worker{load = Load}) ->
    atomics:add(Load, ?REQUESTS, 1),
    case atomics:get(Load, ?DRAINING) of
        0 ->
            py_counters:add(Worker, requests, 1);
        _ ->
            atomics:sub(Load, ?REQUESTS, 1),
            {error, draining}
    end;
reserve(stream, Worker = #worker{load = Load, max_streams = Max}) ->
    case atomics:add_get(Load, ?STREAMS, 1) of
        N when N > Max ->
            atomics:sub(Load, ?STREAMS, 1),
            {error, overloaded};
        _ ->
            case reserve(call, Worker) of
                ok ->
                    py_counters:add(Worker, streams, 1);
                Draining ->
                    atomics:sub(Load, ?STREAMS, 1),
                    Draining
            end
    end.

%% @doc Takes back what was counted for a request that is not made.
-spec release(call | stream, #worker{}) -> ok.
release(call, #worker{load = Load}) ->
    atomics:sub(Load, ?REQUESTS, 1);
release(stream, Worker = #worker{load = Load}) ->
    atomics:sub(Load, ?STREAMS, 1),
    release(call, Worker).

%% @doc Counts code of `py:exec', which a worker that takes nothing new runs, too.
-spec exec(#worker{}) -> ok.
exec(Worker = #worker{load = Load}) ->
    atomics:add(Load, ?REQUESTS, 1),
    py_counters:add(Worker, requests, 1).

%% @doc A request has ended in Python. A count below zero is of an answer without a request, unless one of
%% `Lost' was taken for lost that was only late.
-spec ended(#worker{}, counts(), Lost :: counts()) -> {ok, Lost :: counts()} | error.
ended(#worker{load = Load}, {Requests, Streams}, {LostRequests, LostStreams}) ->
    case {ended(Load, ?REQUESTS, Requests, LostRequests), ended(Load, ?STREAMS, Streams, LostStreams)} of
        {R, S} when is_integer(R), is_integer(S) -> {ok, {R, S}};
        _ -> error
    end.

ended(_Load, _Counter, 0, Lost) ->
    Lost;
ended(Load, Counter, 1, Lost) ->
    case atomics:sub_get(Load, Counter, 1) of
        N when N >= 0 ->
            Lost;
        _ when Lost > 0 ->
            atomics:add(Load, Counter, 1),
            Lost - 1;
        _ ->
            error
    end.

%% @doc Subtracts what was counted and never came to Python.
-spec subtract(#worker{}, counts()) -> ok.
subtract(#worker{load = Load}, {Requests, Streams}) ->
    Requests > 0 andalso atomics:sub(Load, ?REQUESTS, Requests),
    Streams > 0 andalso atomics:sub(Load, ?STREAMS, Streams),
    ok.

%% @doc How many requests are under way.
-spec requests(#worker{}) -> integer().
requests(#worker{load = Load}) ->
    atomics:get(Load, ?REQUESTS).

-spec counts(#worker{}) -> counts().
counts(#worker{load = Load}) ->
    {atomics:get(Load, ?REQUESTS), atomics:get(Load, ?STREAMS)}.

%% @doc Whether the worker takes nothing new from now on.
-spec drain(#worker{}, boolean()) -> ok.
drain(#worker{load = Load}, true) -> atomics:put(Load, ?DRAINING, 1);
drain(#worker{load = Load}, false) -> atomics:put(Load, ?DRAINING, 0).

%% @doc Lets the worker take nothing new, unless something runs in it.
-spec close(#worker{}) -> boolean().
close(Worker) ->
    drain(Worker, true),
    case requests(Worker) =< 0 of
        true ->
            true;
        false ->
            drain(Worker, false),
            false
    end.

%% @doc The calling worker ends with that status. Of other terms than these only that it has gone is kept.
-spec ends(#worker{}, py_error:status()) -> ok.
ends(#worker{load = Load}, Status) ->
    atomics:put(Load, ?STATUS, number(Status)).

number(Code) when is_integer(Code), Code >= 0, Code < ?TERM -> Code + 1;
number({signal, Signal}) when is_integer(Signal), Signal > 0 -> -Signal;
number(Term) -> number(Term, ?TERMS, ?TERM).

number(_Term, [], _Number) -> ?TERM + 1;
number(Term, [Term | _], Number) -> Number + 1;
number(Term, [_ | Rest], Number) -> number(Term, Rest, Number + 1).

%% @doc What a worker has ended with whose process has gone.
-spec status(#worker{}) -> py_error:status().
status(#worker{load = Load}) ->
    case atomics:get(Load, ?STATUS) of
        0 -> killed;
        Signal when Signal < 0 -> {signal, -Signal};
        Code when Code =< ?TERM -> Code - 1;
        Term -> lists:nth(Term - ?TERM, ?TERMS)
    end.
