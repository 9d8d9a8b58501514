%% @doc A stream as a fun that folds: the reduce protocol of Elixir's `Enumerable', which has
%% an implementation for funs of two arguments.
%%
%% `Enumerable({cont, Acc}, Fun)' starts the generator and calls `Fun(Value, Acc)' for each
%% value. `Fun' returns `{cont, Acc}' for the next one, `{halt, Acc}' to end, or `{suspend, Acc}' to
%% come back later. The result is `{done, Acc}', `{halted, Acc}', or `{suspended, Acc, Continue}'
%% with a fun that takes the next of these three commands.
%% @hidden
-module(py_enumerable).

-export([new/2, foreach/2]).
-export([format_error/2]).
-export_type([command/0, enumerable/0, reducer/0, result/0]).

-type command() :: {cont | halt | suspend, Acc :: term()}.
-type result() ::
    {done | halted, Acc :: term()}
    | {suspended, Acc :: term(), fun((command()) -> result())}.
-type enumerable() :: fun((command(), reducer()) -> result()).
-type reducer() :: fun((Value :: term(), Acc :: term()) -> command()).
-type start() :: fun(() -> {ok, reference()} | {error, py_error:reason()}).
-type close() :: fun((reference()) -> ok).

-record(walk, {
    ref :: reference(),
    reduce :: reducer(),
    close :: close(),
    %% How often it was suspended. A continuation is for one of these times.
    suspended :: counters:counters_ref()
}).

%% @doc A fun that calls `Start' each time it is walked, for a stream whose owner is the
%% calling process, and `Close' for one that has not ended when nobody wants more.
-spec new(start(), close()) -> enumerable().
new(Start, Close) ->
    fun(Command, Reduce) when is_function(Reduce, 2) -> walk(Command, Start, Close, Reduce) end.

%% @doc Calls `Fun' with each value.
-spec foreach(fun((term()) -> term()), enumerable()) -> ok.
foreach(Fun, Enumerable) ->
    {done, ok} = Enumerable({cont, ok}, fun(Value, ok) ->
        _ = Fun(Value),
        {cont, ok}
    end),
    ok.

%% Nothing is started before the first value is asked for.
walk({halt, Acc}, _Start, _Close, _Reduce) ->
    {halted, Acc};
walk({suspend, Acc}, Start, Close, Reduce) ->
    {suspended, Acc, fun(Command) -> walk(Command, Start, Close, Reduce) end};
walk({cont, Acc}, Start, Close, Reduce) ->
    case Start() of
        {ok, Ref} ->
            next(Acc, #walk{ref = Ref, reduce = Reduce, close = Close, suspended = counters:new(1, [])});
        {error, Reason} ->
            raise(Reason)
    end.

next(Acc, W = #walk{ref = Ref}) ->
    receive
        {py_stream, Ref, {batch, Values}} -> values(Values, Acc, W);
        {py_stream, Ref, {data, Value}} -> values([Value], Acc, W);
        {py_stream, Ref, done} -> {done, Acc};
        {py_stream, Ref, {error, Reason}} -> raise(Reason)
    end.

values([], Acc, W) ->
    next(Acc, W);
values([Value | Rest], Acc, W = #walk{reduce = Reduce}) ->
    case reduce(Reduce, Value, Acc, W) of
        {cont, NewAcc} -> values(Rest, NewAcc, W);
        Command -> obey(Command, Rest, W)
    end.

%% An exception of the consumer's closes the generator, as a halt does.
reduce(Reduce, Value, Acc, W) ->
    try
        Reduce(Value, Acc)
    catch
        Class:Reason:Stack ->
            close(W),
            erlang:raise(Class, Reason, Stack)
    end.

obey({cont, Acc}, Rest, W) ->
    values(Rest, Acc, W);
obey({halt, Acc}, _Rest, W) ->
    close(W),
    {halted, Acc};
obey({suspend, Acc}, Rest, W = #walk{suspended = Suspended}) ->
    counters:add(Suspended, 1, 1),
    Time = counters:get(Suspended, 1),
    Owner = self(),
    {suspended, Acc, fun(Command) ->
        %% The values come to the process that has started the stream.
        self() =:= Owner orelse error({not_owner, W#walk.ref}),
        counters:get(Suspended, 1) =:= Time orelse error({already_resumed, W#walk.ref}),
        counters:add(Suspended, 1, 1),
        obey(Command, Rest, W)
    end};
obey(Other, _Rest, W) ->
    close(W),
    error({bad_return_value, Other}).

close(#walk{ref = Ref, close = Close}) ->
    Close(Ref).

-spec raise(py_error:reason()) -> no_return().
raise(Reason) ->
    error(Reason, none, [{error_info, #{module => ?MODULE}}]).

%% @doc What the shell prints, as `error_info' demands.
-spec format_error(py_error:reason(), erlang:stacktrace()) -> #{reason := unicode:chardata()}.
format_error(Reason, _Stack) ->
    #{reason => py_error:format_error(Reason)}.
