%% @doc A callback that Python code makes: a call of a registered function, or a
%% question to the node. Each runs in a process of its own and writes its result to
%% the port itself.
%% @hidden
-module(py_callback).

-include("py_worker.hrl").

-export([start/3, failed/3, outcome/1]).

%% @doc Starts the process of a callback.
-spec start(#worker{}, Id :: binary(), Payload :: binary()) -> {pid(), reference()}.
start(Worker, Id, Payload) ->
    spawn_monitor(fun() -> run(Worker, Id, Payload) end).

run(Worker = #worker{pid = Pid, pool = Pool}, Id, Payload) ->
    py_log:label(callback, Pool),
    case question(Payload) of
        {ok, Question} -> answer(Worker, Id, Question);
        {error, Reason} -> py_port:replace(Pid, Reason)
    end.

question(Payload) ->
    case py_etf:decode(Payload) of
        {ok, Question = {call, _Name, Args}} when is_list(Args) -> {ok, Question};
        {ok, Question = {call, _Name, Args, For}} when is_list(Args), is_binary(For) -> {ok, Question};
        {ok, Question = {whereis, _Name, []}} -> {ok, Question};
        {ok, Question = {registered, _Name, []}} -> {ok, Question};
        {ok, Question = {registered, _Name, [], For}} when is_binary(For) -> {ok, Question};
        {ok, Question = {channel, Pid, [Address]}} when is_pid(Pid), is_binary(Address) -> {ok, Question};
        {ok, _} -> {error, bad_frame};
        {error, Reason} -> {error, Reason}
    end.

%% It is answered by what the channel writes.
answer(Worker, _Id, {channel, Pid, [Address]}) ->
    py_channel:attach(Worker, Pid, Address);
answer(Worker, Id, Question) ->
    Result = outcome(Worker, Question),
    py_port:write(Worker, py_frame:callback_result(Id, term_to_iovec(Result))) orelse
        failed(Worker, Id, answer_not_written).

%% @doc The result of a callback whose process was killed, or whose own result is too
%% large for a frame.
-spec failed(#worker{}, Id :: binary(), Reason :: term()) -> boolean().
failed(Worker, Id, Reason) ->
    py_port:write(Worker, py_frame:callback_result(Id, term_to_iovec(error_result(exit, Reason, [])))).

%% The node that a request came from may have what this one has not.
outcome(#worker{caller_functions = true}, Question) when tuple_size(Question) =:= 4 ->
    {Kind, Name, Args, For} = Question,
    case py_functions:lookup(Name) =:= error andalso py_relays:origin(py_frame:addressee(For)) of
        {ok, Node} ->
            case py_remote:ask(Node, {callback, {Kind, Name, Args}}, infinity) of
                %% The node is gone, or has another release.
                {error, Reason} -> error_result(error, Reason, []);
                Outcome -> Outcome
            end;
        _ -> outcome({Kind, Name, Args})
    end;
outcome(_Worker, {Kind, Name, Args, _For}) ->
    outcome({Kind, Name, Args});
outcome(_Worker, Question) ->
    outcome(Question).

%% @doc What a callback comes to.
-spec outcome({call | registered | whereis, binary() | atom(), [term()]}) -> tuple().
outcome(Question) ->
    try
        {ok, result(Question)}
    catch
        Class:Reason:Stack -> error_result(Class, Reason, Stack)
    end.

result({call, Name, Args}) ->
    case py_functions:lookup(Name) of
        {ok, Fun} when is_function(Fun) -> Fun(Args);
        {ok, {M, F}} -> M:F(Args);
        error -> error({not_registered, Name})
    end;
result({registered, Name, []}) ->
    py_functions:lookup(Name) =/= error;
result({whereis, Name, []}) ->
    whereis(existing_atom(Name)).

%% A name of which the node has no atom is registered by no process, so none is created.
existing_atom(Name) when is_atom(Name) -> Name;
existing_atom(Name) ->
    try
        binary_to_existing_atom(Name)
    catch
        error:badarg -> undefined
    end.

error_result(Class, Reason, Stack) ->
    Own = fun(Module, _, _) -> Module =:= ?MODULE end,
    Text = erl_error:format_exception(Class, Reason, Stack, #{stack_trim_fun => Own}),
    Shown = [Entry || Entry = {Module, _, _, _} <- Stack, Module =/= ?MODULE],
    {error, Class, Reason, [without_args(Entry) || Entry <- Shown], text(Text)}.

%% Arguments may be large, and are the caller's own.
without_args({M, F, Args, Location}) when is_list(Args) ->
    {M, F, length(Args), location(Location)};
without_args({M, F, Arity, Location}) ->
    {M, F, Arity, location(Location)}.

location(Location) ->
    File = proplists:get_value(file, Location, ""),
    {text(File), proplists:get_value(line, Location, 0)}.

text(Text) ->
    case unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> <<>>
    end.
